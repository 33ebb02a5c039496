"""How much context, slots and threads a model gets on this machine, and which models fit."""
