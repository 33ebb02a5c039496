"""Differences of Mistral's API from OpenAI's. It answers 422 to an unknown field."""

from gateway.upstreams.capabilities import Capabilities
from gateway.wire.body_types import Body

from .server_kind import ServerKind, mark_prefix

RENAMED_FIELDS = {"max_completion_tokens": "max_tokens", "seed": "random_seed"}


def build_capabilities(model: str, url: str) -> Capabilities:
    return Capabilities(
        logprobs=False,
        top_logprobs=0,
        scoring=False,
        prediction=True,
        prefill=True,
        tools=True,
        custom_tools=False,
        json_schema=True,
        vision=True,
        audio=True,
        logit_bias=False,
        min_p=True,
        choices=True,
        completions=False,
        embeddings=True,
        grammar=False,
        structured_outputs=False,
    )


def adapt_body(body: Body, continues: bool) -> Body:
    """Rename fields and drop `stream_options`, which the API rejects; its streams always report usage."""
    renamed = {RENAMED_FIELDS.get(key, key): value for key, value in body.items() if key != "stream_options"}
    return mark_prefix(renamed) if continues else renamed


KIND = ServerKind(
    build_capabilities,
    adapt_body,
    rewritten_fields=frozenset({*RENAMED_FIELDS, "stream_options"}),
    is_strict=lambda url: True,
    context_path=("max_context_length",),
)
