"""Commands that make record sets and training sets."""
