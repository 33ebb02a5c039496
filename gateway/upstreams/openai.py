"""What OpenAI and servers that follow it to the letter can do."""

from .capabilities import Capabilities
from .kind import Kind

PREDICTING = ("gpt-4o", "gpt-4.1")
"""Families that take Predicted Outputs."""


def capabilities(model: str, url: str) -> Capabilities:
    """Whatever OpenAI's API has is left to the server to refuse: many models and servers stand behind this kind."""
    return Capabilities(
        logprobs=True,
        top_logprobs=20,
        scoring=False,
        prediction=model.startswith(PREDICTING),
        prefill=False,
        tools=True,
        json_schema=True,
        vision=True,
        audio=True,
        logit_bias=True,
        min_p=True,
        choices=True,
        completions=True,
        embeddings=True,
    )


KIND = Kind(capabilities)
