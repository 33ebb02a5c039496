"""The decisions: pure code, no I/O, the same live and in replay."""
