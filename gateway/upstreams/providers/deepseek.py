"""Differences of DeepSeek's API from OpenAI's."""

from gateway.upstreams.capabilities import Capabilities
from gateway.wire.body_types import Body

from .server_kind import ServerKind, mark_prefix


def build_capabilities(model: str, url: str) -> Capabilities:
    """Return the capabilities. Only the base URL `https://api.deepseek.com/beta` continues a partial answer,
    and `response_format` supports `json_object` but no schema."""
    return Capabilities(
        logprobs=True,
        top_logprobs=20,
        scoring=False,
        prediction=False,
        prefill=url.rstrip("/").endswith("/beta"),
        tools=True,
        custom_tools=False,
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


def adapt_body(body: Body, continues: bool) -> Body:
    return mark_prefix(body) if continues else body


KIND = ServerKind(build_capabilities, adapt_body)
