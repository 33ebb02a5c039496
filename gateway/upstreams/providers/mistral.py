"""Differences of Mistral's API from OpenAI's. It answers 422 to an unknown field."""

from gateway.upstreams.capabilities import Capabilities
from gateway.wire.shapes import Body

from .kind import Kind, continuing

RENAMED = {"max_completion_tokens": "max_tokens", "seed": "random_seed"}


def capabilities(model: str, url: str) -> Capabilities:
    return Capabilities(
        logprobs=False,
        top_logprobs=0,
        scoring=False,
        prediction=True,
        prefill=True,
        tools=True,
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


def adapted(body: Body, continues: bool) -> Body:
    """Rename fields and drop `stream_options`, which the API rejects; its streams always report usage."""
    own = {RENAMED.get(key, key): value for key, value in body.items() if key != "stream_options"}
    return continuing(own) if continues else own


KIND = Kind(
    capabilities,
    adapted,
    rewrites=frozenset({*RENAMED, "stream_options"}),
    strict=lambda url: True,
    context=("max_context_length",),
)
