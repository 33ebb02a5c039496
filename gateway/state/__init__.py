"""State that outlives a request."""
