"""One model on two engines: do their signals, confidences and decisions agree? `python -m benchmarks.engines`

SmolLM2-135M-Instruct answers 100 held-out questions of the starter set, greedily, on real vLLM (32 bits) and on
llama.cpp (as shipped, Q4_1, and with the same values in 16 bits). Texts are compared token by token up to the first
that differs; what follows it answers another question.
"""

import argparse
import asyncio
import json
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import exp
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import urlopen

import openai
from openai.types.chat import ChatCompletion, ChatCompletionTokenLogprob

from benchmarks import pair, results
from benchmarks.proof import requantised
from benchmarks.vllm import environment
from benchmarks.vllm.server import vllm
from gateway.cli.loopback_gateway import run_gateway
from gateway.cli.records.drafting import COLLECT_POLICY
from gateway.local.weights.resolution import find_default_weights
from gateway.settings import LocalEngine, Settings, load_settings
from policies.loading.loader import load_policies
from policies.schema.policy import Policy
from routers.confidence.calibration import Calibrator
from routers.confidence.signals import SIGNALS, compute_signals
from routers.plan import Token
from routers.strategies.cascade import Cascade

ITEMS = 100
MAX_TOKENS = 64
TOP = 5
AT_ONCE = 4

TOLERANCE = {"logprob": 0.03, "signal": 0.06, "confidence": 0.01}
"""Of vLLM in 32 bits and llama.cpp in 16, on the same tokens: nats, a signal's unit, and a probability."""

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}


class Answer(NamedTuple):
    """`tokens` are those of the text; `end` is the one that ended it, where the engine lists that too."""

    text: str
    tokens: list[Token]
    end: list[Token]
    finish: str


def on_vllm(url: str, model: str) -> Settings:
    fields = {"name": "vllm", "tier": "slm", "url": url, "model": model, "engine": "vllm"}
    return Settings.model_validate({"local": None, "upstreams": [fields | {"probe": 0}]})


def on_llamacpp(weights: Path) -> Settings:
    return Settings(local=LocalEngine(model=str(weights), threads=1, slots=AT_ONCE))


def held_out(count: int) -> list[str]:
    return [item.prompt for item in pair.held_out(count)]


def asked(settings: Settings, prompts: Sequence[str], **more: Any) -> list[Answer]:
    """Through a gateway of its own, as a client asks."""
    return asyncio.run(answers(settings, prompts, **more))


async def answers(settings: Settings, prompts: Sequence[str], **more: Any) -> list[Answer]:
    slots = asyncio.Semaphore(AT_ONCE)
    async with (
        run_gateway(settings, [COLLECT_POLICY]) as served,
        openai.AsyncOpenAI(base_url=served.url, api_key="none", timeout=600) as client,
    ):

        async def one(prompt: str) -> Answer:
            async with slots:
                return _read(
                    await client.chat.completions.create(
                        model=COLLECT_POLICY.name,
                        messages=[{"role": "user", "content": prompt}],
                        temperature=0,
                        max_tokens=MAX_TOKENS,
                        logprobs=True,
                        top_logprobs=TOP,
                        **more,
                    )
                )

        return list(await asyncio.gather(*(one(prompt) for prompt in prompts)))


def _read(answer: ChatCompletion) -> Answer:
    (choice,) = answer.choices
    found = choice.logprobs.content if choice.logprobs else None
    tokens, text = [_token(token) for token in found or ()], choice.message.content or ""
    listed = "".join(token.text for token in tokens)
    ends = bool(tokens) and listed != text and listed.removesuffix(tokens[-1].text) == text
    at = len(tokens) - ends
    return Answer(text, tokens[:at], tokens[at:], choice.finish_reason)


def _token(token: ChatCompletionTokenLogprob) -> Token:
    return Token(token.token, token.logprob, [other.logprob for other in token.top_logprobs])


def shared(one: Answer, other: Answer) -> int:
    """Tokens up to the first that differs."""
    for at, (a, b) in enumerate(zip(one.tokens, other.tokens, strict=False)):
        if a.text != b.text:
            return at
    return min(len(one.tokens), len(other.tokens))


def compared(some: Sequence[Answer], others: Sequence[Answer], policy: Policy) -> dict[str, Any]:
    """Of the same prompts: equal texts, first differences, and how far apart what both say of them is."""
    router = policy.router
    assert isinstance(router, Cascade)
    pairs = list(zip(some, others, strict=True))
    equal = [both for both in pairs if _same(*both)]
    partings = [_parting(*both) for both in pairs if not _same(*both)]
    judge = router.calibrator
    return {
        "prompts": len(pairs),
        "equal_texts": len(equal),
        **_on_shared_tokens(pairs, judge),
        "confidence": _summary([[_confidence(judge, answer) for answer in both] for both in equal]),
        "confidence_with_ends": _summary(
            [[_confidence(judge, answer, ends=True) for answer in both] for both in equal]
        ),
        "other_decisions": _other_decisions(router, pairs),
        "other_decisions_of_equal_texts": _other_decisions(router, equal),
        "widest_tie": max((min(parting["margins"]) for parting in partings), default=0.0),
        "partings": partings,
    }


def _same(one: Answer, other: Answer) -> bool:
    return (one.text, one.finish) == (other.text, other.finish)


def _other_decisions(router: Cascade, pairs: Sequence[tuple[Answer, Answer]]) -> int:
    """Where one draft would be served and the other would not."""
    served = [[_confidence(router.calibrator, answer) >= router.accept for answer in both] for both in pairs]
    return sum(one != other for one, other in served)


def _on_shared_tokens(pairs: Sequence[tuple[Answer, Answer]], calibrator: Calibrator) -> dict[str, Any]:
    """Up to the first token that differs both have read the same, so what they say of it can be compared."""
    begun = [
        (one.tokens[:length], other.tokens[:length]) for one, other in pairs if (length := shared(one, other))
    ]
    found = [(compute_signals(one), compute_signals(other)) for one, other in begun]
    each = {name: _summary([(one[name], other[name]) for one, other in found]) for name in SIGNALS}
    tokens = [token for both in begun for token in zip(*both, strict=True)]
    return {
        "logprob": _summary([(one.logprob or 0.0, other.logprob or 0.0) for one, other in tokens]),
        "signal_max": max(differences["max"] for differences in each.values()),
        "running_confidence": _summary(
            [[calibrator.confidence(read, finished=False) for read in both] for both in found]
        ),
        "signals": each,
    }


def _confidence(calibrator: Calibrator, answer: Answer, *, ends: bool = False) -> float:
    tokens = answer.tokens + answer.end if ends else answer.tokens
    return calibrator.confidence(compute_signals(tokens, answer.finish), finished=True)


def _summary(pairs: Sequence[Sequence[float]]) -> dict[str, float]:
    """Of absolute differences."""
    differences = sorted(abs(one - other) for one, other in pairs)
    if not differences:
        return {"n": 0}
    return {
        "n": len(differences),
        "mean": round(statistics.mean(differences), 6),
        "max": round(differences[-1], 6),
    }


def _parting(one: Answer, other: Answer) -> dict[str, Any]:
    """How near a tie the token was on which two answers part: best less second best, in nats."""
    at = shared(one, other)
    both = [[*answer.tokens, *answer.end][at : at + 1] for answer in (one, other)]
    return {
        "token": at,
        "texts": [token.text for tokens in both for token in tokens],
        "margins": [round(token.top[0] - token.top[1], 4) for tokens in both for token in tokens],
    }


def constrained(settings: Settings) -> dict[str, Any]:
    """One answer under a schema: what log-probabilities of a masked token mean differs."""
    form = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": SCHEMA}}
    (answer,) = asked(settings, ["What is the capital of France?"], response_format=form)
    return {
        "text": answer.text,
        "tokens": [token.text for token in answer.tokens],
        "logprobs": [round(token.logprob or 0.0, 4) for token in answer.tokens],
        "mean": round(compute_signals(answer.tokens)["mean"], 4),
        "likeliest_first": round(sum(exp(top) for top in answer.tokens[0].top), 4),
    }


def policy_auto() -> Policy:
    auto = load_policies()["auto"]
    assert isinstance(auto, Policy)
    return auto


@contextmanager
def real_vllm(url: str | None, model: str) -> Iterator[str]:
    """The base URL of the one that runs already, else of one that is started."""
    if url is not None:
        yield url
        return
    if why := environment.lacking():
        raise SystemExit(why)
    with vllm(environment.models() / model) as server:
        yield server.url


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--url", help="base URL of a vLLM with these weights that runs already, without a key"
    )
    parser.add_argument("--model", default="smollm2", help="its name there")
    args = parser.parse_args()
    prompts, policy = held_out(ITEMS), policy_auto()
    shipped = find_default_weights(load_settings().models_folder)
    found: dict[str, list[Answer]] = {}
    under_schema: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        other = Path(scratch) / "smollm2-135m-instruct.F16.gguf"
        requantised(shipped, other)
        for name, weights in (("Q4_1", shipped), ("F16", other)):
            found[name] = asked(on_llamacpp(weights), prompts)
            under_schema[name] = constrained(on_llamacpp(weights))
    with real_vllm(args.url, args.model) as url, urlopen(f"{url.removesuffix('/v1')}/version") as told:
        version = json.load(told)["version"]
        found["vllm"] = asked(on_vllm(url, args.model), prompts)
        under_schema["vllm"] = constrained(on_vllm(url, args.model))
    pairs = {
        f"{one}_{another}": compared(found[one], found[another], policy)
        for one, another in (("F16", "vllm"), ("Q4_1", "vllm"), ("Q4_1", "F16"))
    }
    document = {"vllm": version, "max_tokens": MAX_TOKENS, "tolerance": TOLERANCE}
    print(results.write("engines", {**document, **pairs, "schema": under_schema}))


if __name__ == "__main__":
    main()
