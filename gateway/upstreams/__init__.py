"""One OpenAI-compatible endpoint each: transport, retries, breaker, pool."""
