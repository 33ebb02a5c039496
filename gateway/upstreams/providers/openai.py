"""What OpenAI and servers that follow it to the letter can do."""

from urllib.parse import urlsplit

from gateway.upstreams.capabilities import Capabilities

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
        grammar=False,
        structured_outputs=False,
    )


def strict(url: str) -> bool:
    """OpenAI's own API, on its own hosts or Azure's, answers 400 to a field it does not know; what stands elsewhere
    may know more."""
    host = urlsplit(url).hostname or ""
    return host == "api.openai.com" or host.endswith(".openai.azure.com")


KIND = Kind(capabilities, strict=strict)
