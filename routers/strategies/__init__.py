"""Routing strategies: direct, difficulty, cascade, hedge and speculative, one per file."""
