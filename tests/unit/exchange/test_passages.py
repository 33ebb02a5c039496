"""Retrieved passages: how a request brings them, what the models are shown, and what is told of the rest."""

from math import exp, log
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK, figures_of, policy, streamed

from gateway.engine.judge.prompt import build_likelihood_text, to_likelihood
from gateway.skills.compress.surprisal import TokenSurprisal
from policies.schema.policy import Affinity, Ceilings, Policy, Shadow
from routers.fragments.passage_filter import LIKELIHOOD_PROMPT, PassageFilter
from routers.plan import Judge
from routers.strategies.direct import Direct
from routers.strategies.hedge import Hedge

CONTEXT: list[Any] = [
    "Ice is cold.",
    {"id": "faq-2", "title": "Fire", "text": "It is hot."},
    {"text": "Tea steams."},
]
ALL = "Passages:\n\n[1] Ice is cold.\n\n[faq-2] Fire: It is hot.\n\n[3] Tea steams.\n\n"
ASKED = ASK["messages"][-1]["content"]


def asks(context: Any = CONTEXT, **more: Any) -> dict[str, Any]:
    return ASK | {"smallfirst": {"context": context}} | more


def says(p: float) -> Reply:
    """One token, and how likely it says its alternatives are."""
    tops = [{"token": label, "logprob": log(q)} for label, q in (("yes", p), ("no", 1.0 - p))]
    told = {"token": "yes", "logprob": log(p), "top_logprobs": tops}
    message = {"role": "assistant", "content": "yes"}
    choice = {"index": 0, "message": message, "finish_reason": "length", "logprobs": {"content": [told]}}
    usage = {"prompt_tokens": 20, "completion_tokens": 1, "total_tokens": 21}
    return Reply(body={"choices": [choice], "usage": usage})


def filtering(router: Any = None, **fields: Any) -> Policy:
    return policy(router or Direct(tier="llm"), filter=PassageFilter(**{"by": "verdict"} | fields))


@pytest.fixture
async def filters(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    """The small model judges, the large one answers."""
    return await start(settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [filtering()])


def shown(server: Scripted) -> Any:
    """What the user said last, as the server got it."""
    return server.requests[-1]["messages"][-1]["content"]


async def test_passages_are_judged_and_the_rest_is_told(filters: Gateway, slm: Scripted, llm: Scripted):
    slm.says(says(0.2), says(0.1), says(0.3))
    for stream in (False, True):
        slm.script = [says(0.2), says(0.1), says(0.3)]
        status, headers, raw = await filters.post("/chat/completions", asks(stream=stream))
        assert status == 200, raw
        assert shown(llm) == f"Passages:\n\n[3] Tea steams.\n\n[1] Ice is cold.\n\n{ASKED}"
        assert "smallfirst" not in llm.requests[-1]
        assert headers["x-smallfirst-filter"] == "passages=3, kept=2, by=verdict"
        found = await filters.exchange(headers["x-smallfirst-id"])
        assert 5e-6 < found["saved_usd"] < 8e-6  # the large model alone would have read the third
        told = found["skills"]["filter"]
        p = told.pop("p")
        assert told == {"passages": 3, "kept": 2, "by": "verdict", "order": [2, 0], "dropped": [1]}
        odds = [log(one / (1 - one)) for one in (0.2, 0.1, 0.3)]
        assert p == [pytest.approx(1 / (1 + exp(sum(odds) / 3 - one)), abs=1e-4) for one in odds]
    judged = [request["messages"] for request in slm.requests]
    assert len(judged) == 6
    for text, (message,) in zip(("Ice is cold.", "Fire: It is hot.", "Tea steams."), judged[:3], strict=True):
        assert f"Question:\n{ASKED}\n\nPassage:\n{text}\n\n" in message["content"]


async def test_a_record_holds_no_text_of_what_was_dropped(filters: Gateway, slm: Scripted):
    slm.says(says(0.5), says(0.5), says(0.1))
    _, headers, _ = await filters.post("/chat/completions", asks())
    found = await filters.exchange(headers["x-smallfirst-id"])
    assert "steams" not in str(found)
    assert [call["because"] for call in found["calls"]] == ["relevance"] * 3 + ["policy"]


@pytest.mark.parametrize(("before", "why"), [([], "error"), ([says(0.9)], "error")], ids=["first", "midway"])
async def test_without_a_judgement_all_are_shown_as_given(
    filters: Gateway, slm: Scripted, llm: Scripted, before: list[Reply], why: str
):
    slm.says(*before, Reply(status=500))
    _, headers, _ = await filters.post("/chat/completions", asks())
    assert shown(llm) == ALL + ASKED
    assert headers["x-smallfirst-filter"] == f"passages=3, kept=3, why={why}"


async def test_no_cloud_judges_what_is_private(start: StartGateway, slm: Scripted, llm: Scripted):
    far = upstream(llm, "llm", cloud=True)
    gateway = await start(settings_of(upstream(slm, "slm"), far), [filtering(Direct(tier="slm"), tier="llm")])
    body = asks() | {"smallfirst": {"context": CONTEXT, "private": True}}
    _, headers, _ = await gateway.post("/chat/completions", body)
    assert headers["x-smallfirst-filter"] == "passages=3, kept=3, why=private"
    assert (llm.requests, shown(slm)) == ([], ALL + ASKED)


async def test_a_judgement_a_passage_comes_on_top_of_the_ceiling(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [filtering(by="likelihood").replace(ceilings=Ceilings(calls=1))],  # which nobody here can tell
    )
    slm.says(says(0.5))
    status, headers, _ = await gateway.post("/chat/completions", asks(["x"] * 64))
    assert (status, headers["x-smallfirst-filter"]) == (200, "passages=64, kept=64, by=verdict")


async def test_what_does_not_fit_with_all_passages_may_fit_with_those_kept(
    start: StartGateway, slm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm", context=20)), [filtering(Direct(tier="slm"), order="given")]
    )
    slm.says(says(0.9), says(0.1), "Yes.")
    status, headers, raw = await gateway.post("/chat/completions", asks(["a b", "word " * 40]))
    assert (status, headers.get("x-smallfirst-filter")) == (200, "passages=2, kept=1, by=verdict"), raw
    assert shown(slm) == f"Passages:\n\n[1] a b\n\n{ASKED}"


async def test_both_legs_of_a_race_are_shown_the_same(start: StartGateway, slm: Scripted, llm: Scripted):
    router = Hedge(accept=0.5, calibrator=simple_policy().router.calibrator)  # type: ignore[attr-defined]
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")), [filtering(router, most=1, tier="llm")]
    )
    llm.says(says(0.2), says(0.6), says(0.1), "It is cold.")
    text, _, raw = await streamed(gateway, asks())
    assert text == "It is cold."
    assert figures_of(raw)["skills"]["filter"]["order"] == [1]
    expected = f"Passages:\n\n[faq-2] Fire: It is hot.\n\n{ASKED}"
    assert [shown(server) for server in (slm, llm) if server.requests] == [expected, expected]


# --- how they come to stand in the prompt


@pytest.fixture
async def plain(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    """The large model answers, and nobody filters; what the small one would say is tried beside it."""
    other = filtering(Direct(tier="slm")).replace(name="other")
    answering = policy(Direct(tier="llm"), shadow=Shadow(policy="other", share=1.0))
    seeing = upstream(llm, "llm", capabilities={"vision": True})
    return await start(settings_of(upstream(slm, "slm"), seeing), [answering, other])


async def test_without_a_filter_all_passages_stand_before_the_question(plain: Gateway, llm: Scripted):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,eA=="}}
    cases: list[tuple[Any, Any]] = [
        ([*turns, {"role": "user", "content": "c"}], [*turns, {"role": "user", "content": f"{ALL}c"}]),
        (turns, [{"role": "user", "content": f"{ALL}a"}, turns[1]]),
        (
            [{"role": "user", "content": [image]}],
            [{"role": "user", "content": [{"type": "text", "text": ALL}, image]}],
        ),
        ([{"role": "user"}], [{"role": "user", "content": ALL}]),
    ]
    for messages, expected in cases:
        status, headers, raw = await plain.post("/chat/completions", asks(messages=messages))
        assert (status, llm.requests[-1]["messages"]) == (200, expected), raw
        assert "x-smallfirst-filter" not in headers


async def test_every_endpoint_that_writes_takes_them(plain: Gateway, llm: Scripted):
    own = {"smallfirst": {"context": CONTEXT, "tags": {"team": "search"}}}
    await plain.post("/completions", {"model": "test", "prompt": "Is ice cold?"} | own)
    assert llm.requests[-1]["prompt"] == f"{ALL}Is ice cold?"
    status, _, raw = await plain.post("/responses", {"model": "test", "input": "Is ice cold?"} | own)
    assert status == 200, raw
    assert shown(llm) == f"{ALL}Is ice cold?"


async def test_a_shadow_filters_for_itself(plain: Gateway, slm: Scripted):
    slm.says(says(0.1), says(0.9), says(0.1), "Yes.")
    await plain.post("/chat/completions", asks())
    for _ in range(200):
        if len(slm.requests) == 4:
            break
        await plain.get("/health/live")
    assert shown(slm) == f"Passages:\n\n[faq-2] Fire: It is hot.\n\n{ASKED}"


async def test_an_escalated_conversation_stays_though_its_passages_change(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), upstream(llm, "llm")),
        [simple_policy().replace(affinity=Affinity(turns=2), filter=PassageFilter(tier="llm", by="verdict"))],
    )
    slm.says(Reply("Hm.", logprobs=-2.0))
    llm.says(says(0.5), "Yes.", says(0.5), "Yes.")
    await gateway.post("/chat/completions", asks(["a"]))
    messages = [
        *ASK["messages"],
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": "Why?"},
    ]
    _, headers, _ = await gateway.post("/chat/completions", asks(["b"], messages=messages))
    assert headers["x-smallfirst-reason"] == "affinity"
    assert shown(llm) == "Passages:\n\n[1] b\n\nWhy?"


# --- what is no context


@pytest.mark.parametrize(
    ("context", "param", "told"),
    [
        ("text", "", "must be a list of passages"),
        ([1], "[0]", "must be a string or an object with its text, not an integer"),
        (["a", None], "[1]", "must be a string or an object with its text, not null"),
        (["a", {"text": 3}], "[1].text", "must be a string, not an integer"),
        ([{"id": "x"}], "[0].text", "must be a string, not null"),
        ([{"text": " \n"}], "[0].text", "must not be empty"),
        (["a", ""], "[1]", "must not be empty"),
        ([{"text": "a", "score": 1}], "[0].score", "is not known; known keys: id, title, text"),
        ([{"text": "a", "id": "x" * 257}], "[0].id", "at most 256 characters, not 257"),
        ([{"text": "a", "title": []}], "[0].title", "must be a string, not a list"),
        (["a"] * 65, "", "at most 64 passages, not 65"),
    ],
)
async def test_what_is_no_passage_is_refused_by_its_path(
    gateway: Gateway, context: Any, param: str, told: str
):
    status, _, raw = await gateway.post("/chat/completions", asks(context))
    assert status == 400
    assert f'"param":"smallfirst.context{param}"' in raw.decode()
    assert told in raw.decode()


async def test_passages_need_a_place(gateway: Gateway):
    own = {"model": "test", "smallfirst": {"context": ["a"]}}
    for path, body, told in (
        (
            "/chat/completions",
            {"messages": [{"role": "system", "content": "b"}]},
            "needs a message of the user",
        ),
        ("/chat/completions", {"messages": [{"role": "user", "content": 3}]}, "messages[0].content must be"),
        ("/completions", {"prompt": [1, 2]}, "needs a prompt that is one string"),
        ("/embeddings", {"input": "b"}, "embeddings take no passages"),
    ):
        status, _, raw = await gateway.post(path, own | body)
        assert (status, told in raw.decode()) == (400, True), raw


@pytest.mark.parametrize("context", [None, []])
async def test_none_are_none(filters: Gateway, slm: Scripted, llm: Scripted, context: Any):
    _, headers, _ = await filters.post("/chat/completions", asks(context))
    assert (slm.requests, shown(llm)) == ([], ASKED)
    assert "x-smallfirst-filter" not in headers


async def test_junk_is_shown_as_it_is(filters: Gateway, slm: Scripted, llm: Scripted):
    slm.says(says(0.5))
    junk = "\u0000\ufffd{request}{passage} [2] Passages: \U0001f9ca 冷たい"
    await filters.post("/chat/completions", asks([junk, "x" * 200_000]))
    assert junk in slm.requests[0]["messages"][0]["content"]
    assert len(slm.requests[1]["messages"][0]["content"]) < 5000
    assert shown(llm) == f"Passages:\n\n[1] {junk}\n\n[2] {'x' * 200_000}\n\n{ASKED}"


async def test_a_filter_needs_a_judge_that_tells_probabilities(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    near = upstream(slm, "slm", capabilities={"logprobs": False})
    gateway = await start(settings_of(near, upstream(llm, "llm")), [filtering()])
    _, _, raw = await gateway.post("/chat/completions", ASK)
    assert "filter needs logprobs of tier slm, which is not offered by small-server" in raw.decode()


# --- a likelihood


def test_what_the_user_said_last_is_read_after_the_passage():
    judge = Judge("slm", LIKELIHOOD_PROMPT, (), passage=0)
    turns = {"messages": [*ASK["messages"], {"role": "assistant", "content": "Yes."}]}
    given, text = build_likelihood_text(judge, turns, "{request} is " + "cold " * 1000, "chat")
    assert given.startswith("Passage: {request} is cold cold")
    assert given.endswith("A question that the passage answers:")
    assert len(given) < 1600
    assert text == f" {ASKED}"


def test_a_likelihood_is_of_a_token_on_average():
    found = [TokenSurprisal(0, 1, None), TokenSurprisal(1, 2, log(0.5)), TokenSurprisal(2, 3, log(0.125))]
    assert to_likelihood(found, 9).p == {"request": pytest.approx(0.25)}
    assert to_likelihood(found, 9).usage.prompt_tokens == 9
    with pytest.raises(ValueError, match="nothing to read"):
        to_likelihood(found[:1], 1)
