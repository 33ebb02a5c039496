"""OpenAI's Responses API, stateless: requests become chat completions, whose answers become responses."""
