"""Keeps an engine running: its process, its start, its restarts, and the watch for a hang."""
