"""The privacy screen: detects private data, keeps it from clouds, or replaces it by placeholders."""
