"""The OpenAI surface, a file an endpoint."""
