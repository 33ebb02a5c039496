"""Commands that show, compare and explain policies."""
