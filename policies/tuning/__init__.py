"""Tuning from recorded traffic: calibrators, scorers of prompts, and training sets."""
