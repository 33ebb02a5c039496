"""The policies: their YAML, their loading, their records, and their tuning from recorded traffic."""
