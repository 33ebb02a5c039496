"""Commands that show, replay and tune policies."""
