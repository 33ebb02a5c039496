"""A stand-in for vLLM, put on the path of a Python that the supervisor starts: what it is started with, what it logs,
how it answers and how its processes behave when they are killed, without a model."""
