"""vLLM's server: where it differs from OpenAI's."""

from gateway.wire import Body


def adapted(body: Body, continues: bool) -> Body:
    """It continues a last assistant message only when told to."""
    if continues and "messages" in body:
        return {**body, "continue_final_message": True, "add_generation_prompt": False}
    return body
