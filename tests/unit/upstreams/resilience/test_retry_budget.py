"""Retries multiply with those of clients only while they help."""

from typing import Any

import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted

from gateway.upstreams.resilience.retry_budget import MAX_BALANCE, RetryBudget

ASK: dict[str, Any] = {"model": "large", "messages": [{"role": "user", "content": "Is ice cold?"}]}
SOON = {"Retry-After": "0.01"}


@given(st.lists(st.sampled_from(["withdraw", "answer", "fail"]), max_size=60))
def test_there_are_never_more_retries_than_the_first_ones_and_the_answers(steps: list[str]):
    budget, taken, answers, since_failure = RetryBudget(), 0, 0, False
    for step in steps:
        if step == "withdraw":
            before = budget.balance
            assert budget.withdraw() == (before > 0)
            assert not (since_failure and before)
            taken += before > 0
        elif step == "answer":
            budget.record_answer()
            answers, since_failure = answers + 1, False
        else:
            budget.record_failed_retries()
            since_failure = True
    assert taken <= MAX_BALANCE + answers
    assert 0 <= budget.balance <= MAX_BALANCE


async def one_llm(start: StartGateway, llm: Scripted, retries: int) -> Gateway:
    gateway: Gateway = await start(settings_of(upstream(llm, "llm", limits={"retries": retries})))
    return gateway


@pytest.mark.parametrize(
    ("retries", "status", "error"), [(2, 429, openai.RateLimitError), (1, 503, openai.InternalServerError)]
)
async def test_a_client_that_retries_too_does_not_multiply_the_calls(
    start: StartGateway, llm: Scripted, retries: int, status: int, error: type[Exception]
):
    gateway = await one_llm(start, llm, retries)
    llm.says(Reply(status=status, headers=SOON))
    with pytest.raises(error):
        await gateway.client.with_options(max_retries=2).chat.completions.create(**ASK)
    assert len(llm.requests) == (1 + retries) + 1 + 1


async def test_an_answer_makes_a_retry_possible_again(start: StartGateway, llm: Scripted):
    gateway = await one_llm(start, llm, 2)
    busy = Reply(status=429, headers=SOON)
    llm.says(busy, busy, busy, busy, Reply("Yes."), busy, Reply("Yes."))
    statuses = [(await gateway.post("/chat/completions", ASK))[0] for _ in range(4)]
    assert statuses == [429, 429, 200, 200]
    assert len(llm.requests) == 3 + 1 + 1 + 2


@pytest.mark.parametrize("status", [429, 503, 400])
async def test_a_server_that_says_not_to_retry_is_asked_once_and_the_client_is_told(
    start: StartGateway, llm: Scripted, status: int
):
    gateway = await one_llm(start, llm, 2)
    llm.says(Reply(status=status, headers={"x-should-retry": "false", **SOON}))
    answered, headers, _ = await gateway.post("/chat/completions", ASK)
    assert (answered, headers["x-should-retry"], len(llm.requests)) == (status, "false", 1)
    with pytest.raises(openai.APIStatusError):
        await gateway.client.with_options(max_retries=2).chat.completions.create(**ASK)
    assert len(llm.requests) == 2
    llm.says(Reply(status=400))
    _, headers, _ = await gateway.post("/chat/completions", ASK)
    assert "x-should-retry" not in headers
