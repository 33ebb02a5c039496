"""Guards of answers against reproducing the system prompt."""
