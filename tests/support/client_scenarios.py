"""What every client is put through: each way of the built-in policies to come to an answer, with a small model that is
sure of its draft and with one that is not. Who is to answer follows from the two, and what is said tells who did."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel
from support.disconnect import freed
from support.gateways import Gateway
from support.scripted_server import Reply, Scripted

from policies.loading.loader import load_policies
from policies.loading.trained_files import STOCK_CALIBRATOR
from policies.schema.policy import Policy
from routers.confidence.calibration import Calibrator
from routers.plan import Tier
from routers.strategies.direct import Direct

POLICIES = {name: policy for name, policy in load_policies().items() if isinstance(policy, Policy)}
"""The built-in ones."""


def _way(policy: Policy) -> tuple[str, ...]:
    router = policy.router
    return router.kind, str(getattr(router, "release", None)), str(policy.private)


WAYS = [*{_way(policy): name for name, policy in reversed(POLICIES.items())}.values()]
"""One of each way to come to an answer: the other policies are one of these with other numbers, and plain questions of
the official client go through them all."""

SURE = {"sure": True, "unsure": False}
"""Whether the small model is sure of its draft; `ALONE` is for what does not depend on it."""
ALONE = {"": True}

SMALL = Calibrator.model_validate_json(STOCK_CALIBRATOR.read_bytes()).made_for
"""The model and the engine that their calibrator is made for."""

LOGPROBS = {True: -0.05, False: -6.0}
"""Of each token of a draft, by whether the small model is sure of it."""

SAID: dict[Tier, str] = {"slm": "It is cold.", "llm": "Cold, of course."}
WORD: dict[Tier, str] = {"slm": "cold", "llm": "icy"}
"""What each tier answers in words, and as JSON or as the tool's argument."""

THOUGHT = "Let me think."
"""What a reasoning model thinks before it answers."""

RETRY_AFTER = "7"
COMPLAINT = {"message": "no such top_p", "type": "invalid_request_error", "param": "top_p", "code": "bad"}
ERRORS: dict[str, tuple[Reply, int, str]] = {
    "rejected": (Reply(status=400, body={"error": COMPLAINT}), 400, "bad"),
    "rate limited": (Reply(status=429, headers={"Retry-After": RETRY_AFTER}), 429, "rate_limit_exceeded"),
    "overloaded": (Reply(status=503, headers={"Retry-After": RETRY_AFTER}), 503, "upstream_overloaded"),
}
"""What both upstreams answer, and the status and code that the client is told."""


class Opposite(BaseModel):
    """What clients ask for as structured output."""

    word: str


def look_up(word: str) -> str:
    """Looks a word up in the dictionary."""
    return f"{word}: an adjective"


@dataclass
class Case:
    """One policy, asked once. `question` is no other case's: no conversation goes on from another's."""

    gateway: Gateway
    slm: Scripted
    llm: Scripted
    policy: Policy
    sure: bool
    question: str
    before: set[str]
    """The exchanges that others made."""

    @property
    def model(self) -> str:
        return self.policy.name

    @property
    def by(self) -> Tier:
        """The tier that is to answer. The large model is in a cloud: `private` keeps everything from it."""
        alone = self.policy.private or isinstance(self.policy.router, Direct)
        return "slm" if self.sure or alone else "llm"

    @property
    def said(self) -> str:
        return SAID[self.by]

    @property
    def word(self) -> str:
        return WORD[self.by]

    @property
    def answering(self) -> Scripted:
        return self.slm if self.by == "slm" else self.llm

    def talk(self) -> None:
        self._script(lambda tier: [Reply(SAID[tier])])

    def answer_in_json(self) -> None:
        self._script(lambda tier: [Reply(json.dumps({"word": WORD[tier]}))])

    def call_a_tool(self, name: str = "look_up") -> None:
        """And when they have its result, they talk."""
        self._script(
            lambda tier: [Reply(calls=[(name, json.dumps({"word": WORD[tier]}))]), Reply(SAID[tier])]
        )

    def converse(self, name: str = "look_up") -> None:
        """Two turns that each call a tool before they talk, and then answers in JSON."""
        thought = {"reasoning": THOUGHT}
        self._script(
            lambda tier: [
                *[
                    Reply(calls=[(name, json.dumps({"word": WORD[tier]}))], **thought),
                    Reply(SAID[tier], **thought),
                ]
                * 2,
                Reply(json.dumps({"word": WORD[tier]})),
            ]
        )

    def say_long(self, gate: asyncio.Event) -> None:
        """The answer waits for the gate, midway."""
        for server in (self.slm, self.llm):
            server.says(Reply(LONG, **self._draft))
        (reply,) = self.answering.script
        reply.gate, reply.gate_at = gate, 9

    def fail(self, reply: Reply) -> None:
        for server in (self.slm, self.llm):
            server.says(reply)

    def _script(self, replies: Callable[[Tier], list[Reply]]) -> None:
        self.slm.says(*(replace(reply, **self._draft) for reply in replies("slm")))
        self.llm.says(*replies("llm"))

    @property
    def _draft(self) -> dict[str, Any]:
        return {"logprobs": LOGPROBS[self.sure], "gap": 6.0}

    async def routes(self) -> list[str]:
        """Of this case's exchanges."""
        return [exchange["route"] for exchange in await self.exchanges()]

    async def exchanges(self) -> list[dict[str, object]]:
        return [await self.gateway.exchange(one) for one in await booked(self.gateway) - self.before]

    def results(self) -> list[str]:
        """What the tools gave, as it came to the model that had called them."""
        messages = self.answering.requests[-1]["messages"]
        return [message["content"] for message in messages if message["role"] == "tool"]


async def booked(gateway: Gateway) -> set[str]:
    """The ids of all exchanges until now: whoever asks for one has the books brought up to date."""
    await gateway.get("/v1/exchanges/none")
    return gateway.app.exchanges.ids()


LONG = "one two three four five six seven eight nine ten"


async def freed_by(case: Case, ask: Callable[[], Awaitable[object]]) -> float:
    """Seconds from where a client is cancelled in the midst of its answer to where who writes it sees it gone."""
    return await freed(ask, case.say_long, case.answering)
