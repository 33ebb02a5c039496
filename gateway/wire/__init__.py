"""The wire formats: OpenAI's requests and responses, vendor fields, and server-sent events."""
