"""Real vLLM on CPU, for tests and measurements; never a dependency of the product."""
