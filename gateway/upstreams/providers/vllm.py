"""Differences of vLLM's server from OpenAI's API."""

from collections.abc import Sequence

from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.transport.garbage import parsing
from gateway.wire.shapes import Body
from gateway.wire.vendor_fields import LLAMACPP, OPENAI, REMOVED

from .kind import Kind, Post, Scorer, Spelled, Tokenizer, root_health
from .token_spelling import bytes_of


def capabilities(model: str, url: str) -> Capabilities:
    """Return the capabilities of a generative model; an embedding model serves nothing else. The server
    refuses images and audio if the model does not take them. It ignores `prediction`."""
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
    """Ask for the continuation of a last assistant message, which is not vLLM's default."""
    if continues and "messages" in body:
        return {**body, "continue_final_message": True, "add_generation_prompt": False}
    return body


async def tokenize(post: Post, body: Body) -> Body:
    return await post("tokenize", body)


async def detokenize(post: Post, body: Body) -> Body:
    return await post("detokenize", body)


async def spell(post: Post, text: str) -> Spelled:
    told = await post("tokenize", {"prompt": text, "return_token_strs": True})
    with parsing("what /tokenize gives"):
        return Spelled(list(told["tokens"]), bytes_of(told["token_strs"], text))


async def logprobs(post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
    """Return the log-probability of each id from index `after` on, from one prefill. vLLM must generate one
    token."""
    asked = {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    answer = await post("completions", asked)
    with parsing("log-probabilities of a prompt"):
        entries = answer["choices"][0]["prompt_logprobs"][after:]
        return [float(entry[str(id_)]["logprob"]) for id_, entry in zip(ids[after:], entries, strict=True)]


KIND = Kind(
    capabilities,
    adapted,
    ignores=LLAMACPP | OPENAI,
    removed=REMOVED,
    renormalises=True,
    tokenizer=Tokenizer(tokenize, detokenize),
    scorer=Scorer(spell, logprobs),
    health=root_health,
    context=("max_model_len",),
)
