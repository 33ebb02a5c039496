"""Runs a small model on this machine: its weights, its server and the supervisor."""
