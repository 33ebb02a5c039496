"""What is known of small models: the catalog, GGUF files, geometry and memory, fingerprints."""
