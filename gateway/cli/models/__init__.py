"""Commands about local models and speculative decoding."""
