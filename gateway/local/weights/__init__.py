"""Getting a model: what a reference names, where its weights are on this machine, and how they are fetched."""
