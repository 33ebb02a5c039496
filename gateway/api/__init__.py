"""The HTTP surface: one module for each endpoint, and the writers of replies."""
