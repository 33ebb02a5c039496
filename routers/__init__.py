"""Routing decisions: pure code without I/O that runs the same live and in replay."""
