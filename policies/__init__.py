"""The policies: their YAML, their loading, and their tuning from recorded traffic."""
