"""llama.cpp's server: where it differs from OpenAI's."""

from gateway.wire import Body

from .capabilities import Capabilities
from .kind import Kind, root_health


def capabilities(model: str, url: str) -> Capabilities:
    """Of a server started with a text model alone: images and sound need a projector's file, embeddings
    `--embeddings`. `echo` is ignored, so it scores nothing."""
    return Capabilities(
        logprobs=True,
        top_logprobs=100,
        scoring=False,
        prediction=False,
        prefill=True,
        tools=True,
        json_schema=True,
        vision=False,
        audio=False,
        logit_bias=True,
        min_p=True,
        choices=True,
        completions=True,
        embeddings=False,
    )


def adapted(body: Body, continues: bool) -> Body:
    """A stream with tools is refused `logprobs`, and has them all the same where its own `n_probs` asks for them."""
    if not (body.get("stream") and body.get("tools") and body.get("logprobs")):
        return body
    asked = {key: value for key, value in body.items() if key not in ("logprobs", "top_logprobs")}
    return asked | {"n_probs": max(1, body.get("top_logprobs") or 0)}


# It goes on from a last assistant message by itself. After a stream it closes, whatever its keep-alive header says.
KIND = Kind(
    capabilities,
    adapted,
    echoes=True,
    keep_alive=False,
    health=root_health,
    context=("meta", "n_ctx"),
)
