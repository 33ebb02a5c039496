"""Prompt compression by the small model's token surprisal."""
