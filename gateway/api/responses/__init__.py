"""OpenAI's Responses API, stateless: translated to a chat completion, and its answer back."""
