"""llama.cpp's server: where it differs from OpenAI's."""

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
        choices=True,
        completions=True,
        embeddings=False,
    )


# It goes on from a last assistant message by itself. After a stream it closes, whatever its keep-alive header says.
KIND = Kind(capabilities, keep_alive=False, health=root_health, context=("meta", "n_ctx"))
