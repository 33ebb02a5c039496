"""vLLM: its arguments, checks before its start, and the process that keeps it."""
