"""Tuning policies from recorded traffic."""
