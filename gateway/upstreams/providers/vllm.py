"""Differences of vLLM's server from OpenAI's API."""

from collections.abc import Sequence

from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.transport.malformed import parsing
from gateway.wire.body_types import Body
from gateway.wire.vendor_fields import LLAMACPP, OPENAI, REMOVED_FROM_VLLM

from .server_kind import Post, Scorer, ServerKind, TokenizedText, Tokenizer, build_root_health_url
from .token_bytes import decode_entries


def build_capabilities(model: str, url: str) -> Capabilities:
    """Return the capabilities of a generative model; an embedding model serves nothing else. The server
    refuses images and audio if the model does not take them. It ignores `prediction`."""
    return Capabilities(
        logprobs=True,
        top_logprobs=20,
        scoring=True,
        prediction=False,
        prefill=True,
        tools=True,
        custom_tools=False,
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


def adapt_body(body: Body, continues: bool) -> Body:
    """Ask for the continuation of a last assistant message, which is not vLLM's default."""
    if continues and "messages" in body:
        return {**body, "continue_final_message": True, "add_generation_prompt": False}
    return body


async def tokenize(post: Post, body: Body) -> Body:
    return await post("tokenize", body)


async def detokenize(post: Post, body: Body) -> Body:
    return await post("detokenize", body)


async def tokenize_text(post: Post, text: str) -> TokenizedText:
    answer = await post("tokenize", {"prompt": text, "return_token_strs": True})
    with parsing("what /tokenize gives"):
        return TokenizedText(list(answer["tokens"]), decode_entries(answer["token_strs"], text))


async def score_by_prefill(post: Post, ids: Sequence[int], after: int) -> Sequence[float]:
    """Return the log-probability of each id from index `after` on, from one prefill. vLLM must generate one
    token."""
    request = {"prompt": list(ids), "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
    answer = await post("completions", request)
    with parsing("log-probabilities of a prompt"):
        entries = answer["choices"][0]["prompt_logprobs"][after:]
        return [float(entry[str(id_)]["logprob"]) for id_, entry in zip(ids[after:], entries, strict=True)]


KIND = ServerKind(
    build_capabilities,
    adapt_body,
    ignored_fields=LLAMACPP | OPENAI,
    removed_fields=REMOVED_FROM_VLLM,
    renormalises=True,
    tokenizer=Tokenizer(tokenize, detokenize),
    scorer=Scorer(tokenize_text, score_by_prefill),
    health_url=build_root_health_url,
    context_path=("max_model_len",),
)
