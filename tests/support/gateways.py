"""Gateways under test: their settings, their policies, and the clients a test talks to them with."""

import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import openai
from support.scripted_server import Scripted
from support.waiting import PATIENCE

from gateway.cli.loopback_gateway import RunningGateway, run_gateway
from gateway.settings import Settings, load_settings
from gateway.upstreams.upstream import Upstream
from policies.records.differences import find_differences
from policies.records.reader import LeftOut, read_records
from policies.records.replay import replay
from policies.schema.policy import Policy
from policies.schema.split import AnyPolicy
from routers.confidence.calibration import Calibrator, Logistic, LogprobSource, Mode, TrainingSet
from routers.plan import Tier
from routers.strategies.cascade import Cascade

CERTIFICATES = ssl.create_default_context()
PRICE = {"input": 1.0, "output": 4.0}
ONCE = {"retries": 0, "connect": PATIENCE}
"""Limits of an upstream that is asked once, so that each request it sees is one that was meant."""


StartGateway = Callable[..., Any]


def simple_calibrator(model: str = "small", engine: str = "openai", mode: Mode = "free") -> Calibrator:
    """confidence = sigmoid(4 + 4 * mean log-probability): 0.98 at 0, 0.5 at -1, 0.02 at -2."""
    rule = Logistic(intercept=4.0, weights=(4.0,))
    return Calibrator(
        made_for=LogprobSource(model=model, engine=engine, mode=mode),
        trained_on=TrainingSet(records="made by hand", sha256="0", drafts=1, date="2026-01-01"),
        signals=("mean",),
        center=(0.0,),
        scale=(1.0,),
        final=rule,
        running=rule,
    )


def simple_policy(**changes: Any) -> Policy:
    fields = {"accept": 0.5, "commit": 0.9, "give_up": 0.1, "calibrator": simple_calibrator()}
    return Policy(name="test", description="For tests.", router=Cascade(**(fields | changes)))


def upstream(server: Scripted, tier: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "name": f"{server.name}-server",
        "tier": tier,
        "url": server.url,
        "model": server.name,
        "key": "sk-test",
    }
    if tier == "llm":
        fields["price"] = PRICE
    else:
        fields["capabilities"] = {"prefill": True}
    return fields | {"limits": ONCE, "probe": 0} | changes


def settings_of(*upstreams: dict[str, Any], **more: Any) -> Settings:
    """Settings with these upstreams, whose models requests may name: many tests ask one model and nobody else."""
    if not upstreams:
        return load_settings()
    return Settings(local=None, upstreams=upstreams, **{"expose_models": True, **more})


@asynccontextmanager
async def gateway_of(
    settings: Settings, records: Path, policies: Iterable[AnyPolicy] = ()
) -> AsyncIterator[RunningGateway]:
    """A gateway that proves, when it ends, that every exchange left a record which replays exactly."""
    settings = settings.model_copy(update={"records": settings.records.model_copy(update={"path": records})})
    async with run_gateway(settings, policies) as served:
        yield served
    left_out = LeftOut()
    found = list(read_records(records, left_out))
    assert left_out.reasons == []
    assert {record.exchange.id for record in found} == served.app.exchanges.ids()
    for record in found:
        assert find_differences(replay(record)) == []


def client_of(url: str) -> openai.AsyncOpenAI:
    """The official client, with the certificates that it is never asked for read once: that takes it twice as long
    as a gateway takes to start."""
    http = openai.DefaultAsyncHttpxClient(verify=CERTIFICATES)
    return openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0, http_client=http)


class Gateway:
    """A running gateway and the clients a test talks to it with."""

    def __init__(self, served: RunningGateway, http: aiohttp.ClientSession) -> None:
        self.served = served
        self.app = served.app
        self.url = served.url
        self.root = served.url.removesuffix("/v1")
        self.http = http
        self.client = client_of(self.url)

    def upstream(self, tier: Tier) -> Upstream:
        """The tier's first."""
        return self.app.pools[tier].upstreams[0]

    async def post(self, path: str, body: Any) -> tuple[int, dict[str, str], bytes]:
        """POST a body as JSON; `bytes` are sent as they are."""
        as_json = {"headers": {"Content-Type": "application/json"}}
        data = {"data": body, **as_json} if isinstance(body, bytes) else {"json": body}
        async with self.http.post(f"{self.url}{path}", **data) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return response.status, headers, await response.read()

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.http.get(f"{self.root}{path}") as response:
            return response.status, await response.json()

    async def exchange(self, exchange_id: str) -> dict[str, Any]:
        status, found = await self.get(f"/v1/exchanges/{exchange_id}")
        assert status == 200, found
        return dict(found)
