"""How an upstream's response becomes a draft: watched, passed through, or buffered."""
