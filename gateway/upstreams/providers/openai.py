"""OpenAI's API, and servers that implement it without differences."""

from urllib.parse import urlsplit

from gateway.upstreams.capabilities import Capabilities

from .server_kind import ServerKind

PREDICTION_FAMILIES = ("gpt-4o", "gpt-4.1")
"""Model families that support Predicted Outputs."""


def build_capabilities(model: str, url: str) -> Capabilities:
    """Return every capability of OpenAI's API: many models and servers have this kind, and each may
    refuse."""
    return Capabilities(
        logprobs=True,
        top_logprobs=20,
        scoring=False,
        prediction=model.startswith(PREDICTION_FAMILIES),
        prefill=False,
        tools=True,
        custom_tools=True,
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


def is_strict(url: str) -> bool:
    """Return whether the host is OpenAI's or Azure's, which answer 400 to an unknown field. Other servers may
    support more fields."""
    host = urlsplit(url).hostname or ""
    return host == "api.openai.com" or host.endswith(".openai.azure.com")


KIND = ServerKind(build_capabilities, is_strict=is_strict)
