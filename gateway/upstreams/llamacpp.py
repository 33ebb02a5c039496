"""llama.cpp's server: where it differs from OpenAI's."""

from gateway.wire import Body


def adapted(body: Body, continues: bool) -> Body:
    """It continues a last assistant message by itself. A prompt prefix already computed is reused."""
    return body
