"""Clients of OpenAI-compatible endpoints: pools, retries, circuit breakers, providers and transport."""
