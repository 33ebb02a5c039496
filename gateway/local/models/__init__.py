"""The catalog of small models: what is known of each, and how it is found."""
