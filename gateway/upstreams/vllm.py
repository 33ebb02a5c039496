"""vLLM's server: where it differs from OpenAI's."""

from gateway.fields import LLAMACPP, OPENAI, REMOVED
from gateway.wire import Body

from .capabilities import Capabilities
from .kind import Kind, Post, Tokenizer, root_health


def capabilities(model: str, url: str) -> Capabilities:
    """Of a generative text model: one that embeds serves nothing else. What it reads beside text depends on the
    model, so that is left to the server to refuse; `prediction` it ignores."""
    return Capabilities(
        logprobs=True,
        top_logprobs=20,
        scoring=True,
        prediction=False,
        prefill=True,
        tools=True,
        json_schema=True,
        vision=True,
        audio=True,
        logit_bias=True,
        min_p=True,
        choices=True,
        completions=True,
        embeddings=False,
        grammar=True,
        structured_outputs=True,
    )


def adapted(body: Body, continues: bool) -> Body:
    """It continues a last assistant message only when told to."""
    if continues and "messages" in body:
        return {**body, "continue_final_message": True, "add_generation_prompt": False}
    return body


async def tokenize(post: Post, body: Body) -> Body:
    return await post("tokenize", body)


async def detokenize(post: Post, body: Body) -> Body:
    return await post("detokenize", body)


KIND = Kind(
    capabilities,
    adapted,
    ignores=LLAMACPP | OPENAI,
    removed=REMOVED,
    renormalises=True,
    tokenizer=Tokenizer(tokenize, detokenize),
    health=root_health,
    context=("max_model_len",),
)
