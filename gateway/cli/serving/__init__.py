"""Commands that run the gateway, check it, or send it something."""
