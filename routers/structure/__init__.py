"""Structural checks of a draft: JSON, schemas, tool calls, loops and refusals."""
