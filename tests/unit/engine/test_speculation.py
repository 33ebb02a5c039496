"""Speculation through the gateway: a small server drafts, a server that scores as vLLM's does verifies."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted, scripted
from support.strategy_requests import assert_well_formed, chunks_of, figures_of, policy, text_of
from support.toy_vllm import Drafter, ToyVllm, cut

from policies.schema.policy import Ceilings
from routers.strategies.direct import Direct
from routers.strategies.speculative import Greedy, Probe, Speculative

ASK = {"model": "test", "messages": [{"role": "user", "content": "What is the sea like?"}], "temperature": 0}
TRUTH = ToyVllm.truth
OTHERWISE = Direct(tier="llm")


def perfect(begun: str) -> str:
    """What is shown of a beginning has no whitespace at its end."""
    return TRUTH[len(begun) :]


def wrong_at_times(begun: str) -> str:
    return TRUTH[len(begun) :].replace("wide", "vast").replace("end", "close")


def foreign(begun: str) -> str:
    return " completely other words"


def silent(begun: str) -> str:
    return ""


@pytest.fixture
async def large() -> AsyncIterator[ToyVllm]:
    async with scripted("large", ToyVllm) as server:
        yield server


@pytest.fixture
async def small() -> AsyncIterator[Drafter]:
    async with scripted("small", Drafter) as server:
        server.drafts = perfect
        yield server


Begin = Callable[..., Any]


@pytest.fixture
def begin(start: StartGateway, small: Drafter, large: ToyVllm) -> Begin:
    async def one(rule: Any = None, **more: Any) -> Gateway:
        router = Speculative(rule=rule or Greedy(block=3), otherwise=OTHERWISE)
        servers = [upstream(small, "slm"), upstream(large, "llm", engine="vllm", **more.pop("llm", {}))]
        return await start(settings_of(*servers, *more.pop("others", ())), [policy(router, **more)])

    return one


async def asked(gateway: Gateway, **more: Any) -> tuple[dict[str, Any], dict[str, str]]:
    status, headers, body = await gateway.post("/chat/completions", ASK | more)
    assert status == 200, body
    return json.loads(body), headers


def content(answer: dict[str, Any]) -> str:
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize(
    ("block", "drafts"),
    [(3, perfect), (50, perfect), (3, wrong_at_times), (None, wrong_at_times), (3, foreign), (2, silent)],
)
async def test_the_answer_is_the_large_models_own(
    begin: Begin, small: Drafter, block: int | None, drafts: Callable[[str], str]
) -> None:
    small.drafts = drafts
    gateway = await begin(Greedy(block=block))
    answer, _ = await asked(gateway)
    assert content(answer) == TRUTH
    assert answer["choices"][0]["finish_reason"] == "stop"


async def test_a_stream_brings_it_as_it_is_verified(begin: Begin, small: Drafter) -> None:
    small.drafts = wrong_at_times
    gateway = await begin(Greedy(block=2))
    body = ASK | {"stream": True, "stream_options": {"include_usage": True}}
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert status == 200
    chunks = chunks_of(raw)
    assert_well_formed(chunks)
    assert text_of(raw) == TRUTH
    assert sum(bool(chunk["choices"] and chunk["choices"][0]["delta"].get("content")) for chunk in chunks) > 3
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm+llm", "verified")
    speculation = chunks[-1]["smallfirst"]["speculation"]
    assert speculation["llm_tokens_alone"] == chunks[-1]["usage"]["completion_tokens"]
    assert 0 < speculation["accepted"] <= speculation["drafted"]


async def test_no_half_of_a_character_is_sent(begin: Begin, small: Drafter) -> None:
    """The large model writes some characters byte by byte."""
    small.drafts = silent
    gateway = await begin(Greedy(block=1, least=0.0))
    _, _, raw = await gateway.post("/chat/completions", ASK | {"stream": True})
    pieces = [chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks_of(raw)]
    assert "".join(pieces) == TRUTH
    assert "🌊" in "".join(pieces)
    assert "\ufffd" not in "".join(pieces)


async def test_what_it_took_is_told(begin: Begin, large: ToyVllm) -> None:
    gateway = await begin(Greedy(block=50))
    answer, headers = await asked(gateway)
    told = dict(pair.split("=") for pair in headers["x-smallfirst-speculation"].split(", "))
    scores = [body for body in large.requests if "prompt_logprobs" in body]
    assert int(told["blocks"]) == int(told["llm_calls"]) == int(told["llm_tokens"]) == len(scores)
    assert int(told["llm_tokens_alone"]) == answer["usage"]["completion_tokens"]
    exchange = await gateway.exchange(headers["x-smallfirst-id"])
    assert exchange["speculation"]["accepted"] == int(told["accepted"])
    assert [call["ask"] for call in exchange["calls"]] == ["generate", "score"] * len(scores)
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        metrics = await response.text()
    assert (
        f'smallfirst_speculation_tokens_total{{kind="accepted",policy="test"}} {told["accepted"]}' in metrics
    )


async def test_verified_tokens_are_carried_and_only_new_text_is_cut(begin: Begin, large: ToyVllm) -> None:
    gateway = await begin(Greedy(block=2))
    await asked(gateway)
    before: list[int] = []
    for body in [body for body in large.requests if "prompt_logprobs" in body]:
        answer = large._answer_in(body["prompt"])
        assert answer[: len(before)] == before
        before = answer[
            : next((at for at in range(len(answer)) if large.own(answer[:at]) != answer[at]), len(answer))
        ]
        before.append(large.own(before))
    texts = [body["prompt"] for body in large.requests if body.get("add_special_tokens") is False]
    assert all(len(text) < len(TRUTH) for text in texts)
    assert cut(TRUTH.encode()) != before[:-1]  # its own spelling is not the tokenizer's


async def test_a_special_token_is_asked_about_once(begin: Begin, small: Drafter, large: ToyVllm) -> None:
    """The large model ends where the draft goes on: whether its token ends answers is not told by its looks."""
    small.drafts = lambda begun: f"{TRUTH} And more."[len(begun) :]
    gateway = await begin(Greedy(block=50))
    for _ in range(2):
        answer, _ = await asked(gateway)
        assert content(answer) == TRUTH
    forced = [body["allowed_token_ids"] for body in large.requests if "allowed_token_ids" in body]
    assert len(forced) == len({ids[0] for ids in forced})


@pytest.mark.parametrize(("most", "stream"), [(1, False), (7, True)])
async def test_no_more_is_written_than_was_asked_for(begin: Begin, most: int, stream: bool) -> None:
    gateway = await begin(Greedy(block=5))
    body = ASK | {"max_tokens": most, "stream": stream, "stream_options": {"include_usage": True}}
    _, _, raw = await gateway.post("/chat/completions", body)
    if stream:
        text, usage = text_of(raw), chunks_of(raw)[-1]["usage"]
    else:
        text, usage = content(json.loads(raw)), json.loads(raw)["usage"]
    assert usage["completion_tokens"] == most
    assert TRUTH.startswith(text)


async def test_completions_are_speculated_on_too(begin: Begin) -> None:
    gateway = await begin()
    body = {"model": "test", "prompt": "Hi<assistant>", "temperature": 0}
    status, headers, raw = await gateway.post("/completions", body)
    assert status == 200, raw
    assert headers["x-smallfirst-reason"] == "verified"
    assert json.loads(raw)["object"] == "text_completion"


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.7},
        {"stop": ["x"]},
        {"n": 2},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"frequency_penalty": 0.5},
        {"logprobs": True},
        {"min_p": 0.1},
        {"messages": [*ASK["messages"], {"role": "assistant", "content": "The"}]},  # type: ignore[misc]
    ],
    ids=lambda more: next(iter(more)),
)
async def test_what_a_verification_is_not_told_of_goes_another_way(
    begin: Begin, large: ToyVllm, more: dict[str, Any]
) -> None:
    gateway = await begin()
    _, headers = await asked(gateway, **more)
    assert headers["x-smallfirst-reason"] == "not_speculated"
    assert "x-smallfirst-speculation" not in headers
    assert {path.rpartition("/")[0] for path in large.paths} == {"/v1/chat"}


@pytest.mark.parametrize(
    "more", [{"n": 1}, {"stop": None}, {"tools": []}, {"presence_penalty": 0}, {"logprobs": False}]
)
async def test_fields_that_say_nothing_are_no_hindrance(begin: Begin, more: dict[str, Any]) -> None:
    gateway = await begin()
    _, headers = await asked(gateway, **more)
    assert headers["x-smallfirst-reason"] == "verified"


async def test_a_draft_that_agrees_enough_is_served(begin: Begin, small: Drafter) -> None:
    small.drafts = lambda begun: TRUTH.replace("🌊", "🐟")
    gateway = await begin(Probe(accept=0.5))
    answer, headers = await asked(gateway, temperature=0.7)
    assert content(answer) == TRUTH.replace("🌊", "🐟")
    assert (headers["x-smallfirst-route"], headers["x-smallfirst-reason"]) == ("slm", "verified")
    assert 0.5 < float(headers["x-smallfirst-confidence"]) < 1


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_agrees_at_first_is_continued(begin: Begin, small: Drafter, stream: bool) -> None:
    small.drafts = wrong_at_times
    gateway = await begin(Probe(accept=1.0))
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    text = text_of(raw) if stream else content(json.loads(raw))
    assert text == TRUTH
    if stream:
        assert_well_formed(chunks_of(raw))
        assert figures_of(raw)["reason"] == "rejected_draft"
    assert headers["x-smallfirst-reason"] == "rejected_draft"


@pytest.mark.parametrize(("page", "after"), [("tokenize", 0), ("completions", 0), ("detokenize", 0)])
async def test_a_scorer_that_fails_at_first_still_writes(
    begin: Begin, large: ToyVllm, page: str, after: int
) -> None:
    large.fails = page
    gateway = await begin()
    answer, headers = await asked(gateway)
    assert content(answer) == TRUTH
    assert headers["x-smallfirst-reason"] == "not_speculated"


@pytest.mark.parametrize(
    ("page", "after", "stream"), [("tokenize", 2, False), ("completions", 1, True), ("detokenize", 1, False)]
)
async def test_a_scorer_that_fails_midway_is_made_good_by_the_small_model(
    begin: Begin, small: Drafter, large: ToyVllm, page: str, after: int, stream: bool
) -> None:
    large.fails, large.fails_after = page, after
    gateway = await begin(Greedy(block=3), llm={"capabilities": {"prefill": False}})
    _, headers, raw = await gateway.post("/chat/completions", ASK | {"stream": stream})
    assert (text_of(raw) if stream else content(json.loads(raw))) == TRUTH
    if not stream:
        assert headers["x-smallfirst-reason"] == "no_llm"


async def test_a_small_model_that_is_lost_midway_leaves_the_rest_to_the_large_one(
    begin: Begin, small: Drafter
) -> None:
    def once(begun: str) -> str:
        if begun:
            raise ConnectionResetError
        return TRUTH

    small.drafts = once
    gateway = await begin(Greedy(block=3))
    answer, headers = await asked(gateway)
    assert content(answer) == TRUTH
    assert headers["x-smallfirst-reason"] == "no_slm"


async def test_a_ceiling_on_calls_ends_the_answer_where_it_is(begin: Begin) -> None:
    gateway = await begin(Greedy(block=3), ceilings=Ceilings(calls=4))
    answer, _ = await asked(gateway)
    assert answer["choices"][0]["finish_reason"] == "length"
    assert TRUTH.startswith(content(answer))
    assert content(answer)


# --- predictions


class Predicting(Scripted):
    """Takes a prediction as OpenAI's documentation says, and refuses what it says is not supported beside one."""

    async def answer(self, request: Any) -> Any:
        body = await request.json()
        refused = [
            name
            for name in ("logprobs", "tools", "max_completion_tokens", "modalities", "audio")
            if body.get("prediction") and body.get(name) is not None
        ]
        refused += [
            name
            for name, most in (("presence_penalty", 0), ("frequency_penalty", 0), ("n", 1))
            if body.get("prediction") and (body.get(name) or 0) > most
        ]
        if refused:
            message = f"not supported with prediction: {refused}"
            self.script = [Reply(status=400, body={"error": {"message": message}})]
            return await super().answer(request)
        words = len(TRUTH.split(" "))
        details = {"accepted_prediction_tokens": 3, "rejected_prediction_tokens": 1}
        usage = {"prompt_tokens": 10, "completion_tokens": words + 1, "completion_tokens_details": details}
        plain = {} if body.get("stream") else {"usage": usage}
        self.script = [Reply(TRUTH, extra=plain if body.get("prediction") else {})]
        return await super().answer(request)


@pytest.fixture
async def predicting() -> AsyncIterator[Predicting]:
    async with scripted("cloud", Predicting) as server:
        yield server


@pytest.mark.parametrize("more", [{}, {"max_completion_tokens": 50}, {"stream": True}, {"temperature": 1}])
async def test_a_server_that_takes_predictions_gets_the_draft_as_one(
    start: StartGateway, small: Drafter, predicting: Predicting, more: dict[str, Any]
) -> None:
    small.drafts = lambda begun: "The sea is vast."
    llm = upstream(predicting, "llm", capabilities={"prediction": True})
    router = Speculative(otherwise=OTHERWISE)
    gateway = await start(settings_of(upstream(small, "slm"), llm), [policy(router)])
    status, headers, raw = await gateway.post("/chat/completions", ASK | more)
    assert status == 200, raw
    assert (text_of(raw) if more.get("stream") else content(json.loads(raw))) == TRUTH
    (body,) = predicting.requests
    assert body["prediction"] == {"type": "content", "content": "The sea is vast."}
    assert headers["x-smallfirst-reason"] == "predicted"
    if not more.get("stream"):
        told = headers["x-smallfirst-speculation"]
        words = len(TRUTH.split(" "))
        assert told.startswith("blocks=1, drafted=4, accepted=3, llm_calls=1")
        assert f"llm_tokens={words - 3}, llm_tokens_alone={words}" in told


@pytest.mark.parametrize("more", [{"logprobs": True}, {"presence_penalty": 1.0}, {"n": 2}])
async def test_but_not_where_that_would_be_refused(
    start: StartGateway, small: Drafter, predicting: Predicting, more: dict[str, Any]
) -> None:
    llm = upstream(predicting, "llm", capabilities={"prediction": True})
    gateway = await start(
        settings_of(upstream(small, "slm"), llm), [policy(Speculative(otherwise=OTHERWISE))]
    )
    _, headers = await asked(gateway, **({"n": 1} | more))
    assert "prediction" not in predicting.requests[-1]
    assert headers["x-smallfirst-reason"] == "not_speculated"
