"""The engine: performs the asks of a router's plan against the upstreams."""
