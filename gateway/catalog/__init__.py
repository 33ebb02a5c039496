"""What a request's `model` may name, and whether the configured upstreams can serve it."""
