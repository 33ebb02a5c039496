"""What is said of an engine's start: how it goes, and why it failed."""
