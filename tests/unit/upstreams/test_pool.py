"""Who of a tier's upstreams is asked."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstreams.failures import Failure
from gateway.upstreams.pool import FAILOVER_REASONS, Pool, build_pools, fallbacks_after
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Call, Upstream
from gateway.wire.requirements import NO_REQUIREMENTS, Requirements
from routers.plan import Draft, Unavailable


class Begun:
    """A response that has begun well and stays so."""

    status = 200
    headers: Mapping[str, str] = {}

    async def read(self, limit: int = 0) -> bytes:
        return b""

    async def next(self, gap: float | None = None) -> bytes:
        return b""

    def close(self) -> None:
        pass


class Network:
    """Every call begins well, unless `answers` has another status for it."""

    def __init__(self, *answers: tuple[int, dict[str, str]]) -> None:
        self.answers = list(answers)

    async def post(self, url: str, body: bytes, wait: float) -> Begun:
        response = Begun()
        if self.answers:
            response.status, headers = self.answers.pop(0)
            response.headers = {name.lower(): value for name, value in headers.items()}
        return response

    async def close(self) -> None:
        pass


def one(name: str = "u", network: Network | None = None, **changes: Any) -> Upstream:
    fields = {
        "name": name,
        "tier": "llm",
        "url": "http://127.0.0.1:9/v1",
        "model": "m",
        "limits": {"retries": 0},
    }
    return Upstream(UpstreamSettings.model_validate(fields | changes), network or Network())


async def begin(pool: Pool, needs: Requirements = NO_REQUIREMENTS) -> tuple[Upstream, Call]:
    """Puts a call to whom the pool chooses, and leaves it under way."""
    chosen = pool.choose(pool.find_candidates(needs))
    return chosen, await chosen.send(chosen.url("chat"), b"", stream=False)


def turns(pool: Pool, count: int, needs: Requirements = NO_REQUIREMENTS) -> list[str]:
    """Names of those chosen while none has anything to do."""
    return [pool.choose(pool.find_candidates(needs)).name for _ in range(count)]


def test_idle_equals_take_turns_by_weight():
    pool = Pool([one("a", weight=1), one("b", weight=3)])
    assert Counter(turns(pool, 40)) == {"a": 10, "b": 30}
    # Smoothly: who has three quarters of the turns never waits for two in a row.
    assert "aa" not in "".join(turns(pool, 40))


async def test_the_one_with_the_least_load_for_its_weight_is_asked():
    pool = Pool([one("a", weight=1), one("b", weight=2)])
    begun = [await begin(pool) for _ in range(6)]
    assert Counter(upstream.name for upstream, _ in begun) == {"a": 2, "b": 4}
    for upstream, call in begun:
        if upstream.name == "a":
            call.close()
    assert [(await begin(pool))[0].name for _ in range(2)] == ["a", "a"]


@given(weights=st.lists(st.floats(0.1, 10.0), min_size=2, max_size=5), calls=st.integers(1, 40))
def test_loads_stay_in_proportion_to_weights(weights: list[float], calls: int):
    async def load() -> None:
        pool = Pool([one(str(index), weight=weight) for index, weight in enumerate(weights)])
        for _ in range(calls):
            await begin(pool)
        assert sum(upstream.load for upstream in pool.upstreams) == calls
        for upstream in pool.upstreams:
            for other in pool.upstreams:
                most = other.load / other.weight + 1 / upstream.weight
                assert upstream.load / upstream.weight <= most + 1e-9

    asyncio.run(load())


async def test_those_of_the_lowest_priority_number_have_all_of_it():
    last, first, second = one("last", priority=2), one("first", priority=-1), one("second")
    pool = Pool([last, first, second])
    assert [upstream.name for upstream in pool.upstreams] == ["first", "second", "last"]
    assert {(await begin(pool))[0].name for _ in range(20)} == {"first"}
    first.set_running(False)
    assert {(await begin(pool))[0].name for _ in range(20)} == {"second"}
    second.record_probe(False)
    assert set(turns(pool, 20)) == {"last"}


def test_one_that_is_down_is_asked_only_where_all_are():
    a, b = one("a"), one("b")
    pool = Pool([a, b])
    a.record_probe(False)
    assert [upstream.name for upstream in pool.find_candidates(NO_REQUIREMENTS)] == ["b"]
    assert (pool.is_up, pool.can_serve_now(NO_REQUIREMENTS)) == (True, True)
    b.record_probe(False)
    assert [upstream.name for upstream in pool.find_candidates(NO_REQUIREMENTS)] == ["a", "b"]
    assert (pool.is_up, pool.can_serve_now(NO_REQUIREMENTS), pool.can_serve(NO_REQUIREMENTS)) == (
        False,
        False,
        True,
    )


def test_of_those_that_are_down_a_restarting_engine_is_left_for_last_as_it_can_be_waited_for():
    engine, other = one("engine", priority=-1), one("other")
    pool = Pool([engine, other])
    engine.set_running(False)
    other.record_probe(False)
    left = pool.find_candidates(NO_REQUIREMENTS)
    assert [pool.choose(left).name, pool.choose(left).name] == ["other", "engine"]


@pytest.mark.parametrize(
    ("status", "headers", "asked_next"),
    [
        (429, {"retry-after": "30"}, "second"),
        (503, {"retry-after": "30"}, "second"),
        (429, {}, "first"),
        (429, {"retry-after": "0"}, "first"),
        (500, {"retry-after": "30"}, "first"),
    ],
)
async def test_who_asks_to_be_left_alone_is_spared_while_others_are_there(
    status: int, headers: dict[str, str], asked_next: str
):
    first, second = one("first", Network((status, headers))), one("second", priority=1)
    pool = Pool([first, second])
    with pytest.raises(Failure):
        await begin(pool)
    assert first.is_up
    assert turns(pool, 1) == [asked_next]
    second.record_probe(False)
    assert turns(pool, 1) == ["first"]


async def test_a_call_is_repeated_only_where_nobody_else_can_be_asked():
    soon = (503, {"retry-after": "0"})
    upstream = one("a", Network(soon, soon), limits={"retries": 2})
    with pytest.raises(Failure, match="503"):
        await upstream.send(upstream.url("chat"), b"", stream=False, is_last=False)
    (await upstream.send(upstream.url("chat"), b"", stream=False, is_last=True)).close()


SEEING, BLIND = {"vision": True}, {"vision": False}


def test_only_those_that_can_are_asked():
    pool = Pool([one("blind", capabilities=BLIND), one("seeing", capabilities=SEEING, priority=1)])
    assert turns(pool, 2) == ["blind", "blind"]
    assert turns(pool, 2, Requirements(frozenset({"vision"}))) == ["seeing", "seeing"]
    first = pool.find_first(Requirements(frozenset({"vision"})))
    assert first is not None
    assert first.name == "seeing"


def test_a_models_name_narrows_the_choice():
    pool = Pool([one("a", model="x"), one("b", model="y"), one("c", model="y")])
    assert Counter(turns(pool, 20, Requirements(model="y"))) == {"b": 10, "c": 10}
    assert not pool.can_serve(Requirements(model="z"))


@pytest.mark.parametrize(
    ("changes", "needs", "why", "said"),
    [
        (
            {"capabilities": BLIND},
            Requirements(frozenset({"vision", "tools"})),
            "incapable",
            "u: does not offer vision",
        ),
        (
            {},
            Requirements(frozenset({"logprobs"}), top_logprobs=21),
            "incapable",
            "20 alternatives a token, not 21",
        ),
        (
            {"context": 100},
            Requirements(tokens=101),
            "context",
            "at least 101 tokens, and the context is 100",
        ),
        ({}, Requirements(model="n"), "incapable", "serves m, not n"),
        ({"tier": "slm"}, Requirements(frozenset({"logit_bias"})), "incapable", "logit_bias"),
    ],
)
def test_what_an_upstream_lacks_is_named(changes: dict[str, Any], needs: Requirements, why: str, said: str):
    upstream = one(**changes)
    lack = upstream.find_mismatch(needs)
    assert not upstream.can_serve(needs)
    assert lack is not None
    assert lack.why == why
    assert said in str(lack)


@pytest.mark.parametrize(
    ("changes", "needs"),
    [
        ({"context": 100}, Requirements(tokens=100)),
        ({}, Requirements(tokens=10**9)),
        ({}, Requirements(frozenset({"logprobs"}), top_logprobs=20)),
        ({"capabilities": {"top_logprobs": 50}}, Requirements(frozenset({"logprobs"}), top_logprobs=50)),
        ({"tier": "slm", "capabilities": {"logit_bias": True}}, Requirements(frozenset({"logit_bias"}))),
        ({}, Requirements(model="m")),
    ],
)
def test_what_it_has_is_not_lacking(changes: dict[str, Any], needs: Requirements):
    upstream = one(**changes)
    assert upstream.can_serve(needs)
    assert upstream.find_mismatch(needs) is None


def test_where_none_can_a_prompt_too_long_is_the_reason_told():
    pool = Pool([one("blind", capabilities=BLIND), one("short", context=10)])
    (named,) = pool.find_candidates(Requirements(frozenset({"vision"}), tokens=11))
    assert named.name == "short"
    (named,) = pool.find_candidates(Requirements(frozenset({"scoring"})))
    assert named.name == "blind"


def lost(why: str, partial: Draft | None = None) -> Unavailable:
    return Unavailable(why, "llm", partial=partial)


def test_what_another_need_not_share_is_cured_by_another():
    failed, other = one("failed"), one("other")
    for why in FAILOVER_REASONS:
        assert fallbacks_after(lost(why), failed, [other]) == [other]
        assert fallbacks_after(lost(why, Draft("llm")), failed, [other]) == []
    for why in ("rejected", "incapable", "ceiling", "not_configured"):
        assert fallbacks_after(lost(why), failed, [other]) == []


@pytest.mark.parametrize(
    ("failed", "other", "cured"),
    [
        (100, 200, True),
        (100, 100, False),
        (200, 100, False),
        (100, None, False),
        (None, 100, True),
        (None, None, False),
    ],
)
def test_a_prompt_too_long_is_cured_by_a_context_known_to_be_larger(
    failed: int | None, other: int | None, cured: bool
):
    larger = one("other", context=other)
    assert fallbacks_after(lost("context"), one(context=failed), [larger]) == ([larger] if cured else [])


def test_tiers_are_told_apart():
    found = build_pools([one("a"), one("b", tier="slm"), one("c")])
    assert {tier: [upstream.name for upstream in pool.upstreams] for tier, pool in found.items()} == {
        "llm": ["a", "c"],
        "slm": ["b"],
    }
