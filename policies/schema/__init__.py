"""The schema of policy files: one pydantic model for each section."""
