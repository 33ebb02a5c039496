"""Differences of DeepSeek's API from OpenAI's."""

from gateway.upstreams.capabilities import Capabilities
from gateway.wire.shapes import Body

from .kind import Kind, continuing


def capabilities(model: str, url: str) -> Capabilities:
    """Return the capabilities. Only the base URL `https://api.deepseek.com/beta` continues a partial answer,
    and `response_format` supports `json_object` but no schema."""
    return Capabilities(
        logprobs=True,
        top_logprobs=20,
        scoring=False,
        prediction=False,
        prefill=url.rstrip("/").endswith("/beta"),
        tools=True,
        json_schema=False,
        vision=False,
        audio=False,
        logit_bias=False,
        min_p=True,
        choices=False,
        completions=False,
        embeddings=False,
        grammar=False,
        structured_outputs=False,
    )


def adapted(body: Body, continues: bool) -> Body:
    return continuing(body) if continues else body


KIND = Kind(capabilities, adapted)
