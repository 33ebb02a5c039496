"""What the gateway costs and how well it decides, measured."""
