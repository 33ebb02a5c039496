"""Commands that make, replay and export records, and train on them."""
