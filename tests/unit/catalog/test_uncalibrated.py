"""A small model without a calibrator of its own: it is served, each answer says so, and one that appears is used."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.gateways import Gateway, StartGateway, settings_of, simple_calibrator, simple_policy, upstream
from support.router_builders import calibrator, constrained_calibrator
from support.scripted_server import Reply, Scripted
from support.strategy_requests import chunks_of, hedge, policy
from support.waiting import until

from gateway.catalog.calibrators import Calibrators
from policies.loading.trained_files import GENERIC_CALIBRATOR, read_trained
from policies.schema.policy import Policy
from routers.confidence.calibration import Calibrator, LogprobSource
from routers.router import Request, Router
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct
from routers.strategies.speculative import Speculative

QUESTION = [{"role": "user", "content": "What is the opposite of hot?"}]
HEADER = "x-smallfirst-calibration"
LOOK = 0.02
SMALL = LogprobSource(model="small", engine="openai")
GENERIC = read_trained(Calibrator, GENERIC_CALIBRATOR)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


async def ask(gateway: Gateway, model: str = "auto", **more: Any) -> tuple[dict[str, str], bytes]:
    body = {"model": model, "messages": QUESTION} | more
    status, headers, raw = await gateway.post("/chat/completions", body)
    assert status == 200, raw
    return headers, raw


async def metrics(gateway: Gateway) -> str:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        return await response.text()


async def test_every_built_in_policy_serves_a_model_that_has_no_calibrator(
    start: StartGateway, slm: Scripted, llm: Scripted
):
    """Unsure drafts escalate if there is a large model, and are served if there is none."""
    slm.says(Reply("Maybe cold.", logprobs=-1.5))
    for models, route in (
        ([upstream(slm, "slm"), upstream(llm, "llm")], "llm"),
        ([upstream(slm, "slm")], "slm"),
    ):
        gateway = await start(settings_of(*models))
        for name in ("auto", "balanced", "careful", "private"):
            headers, _ = await ask(gateway, name)
            assert (headers[HEADER], headers["x-smallfirst-route"]) == ("uncalibrated", route)
            assert 0.0 < float(headers["x-smallfirst-confidence"]) < 0.6
        headers, _ = await ask(gateway, "frugal")
        assert headers[HEADER] == "uncalibrated"
        headers, _ = await ask(gateway, "offline")
        assert HEADER not in headers


async def test_header_usage_chunk_exchange_record_and_metric_say_so(
    start: StartGateway, slm: Scripted, home: Path
):
    gateway = await start(settings_of(upstream(slm, "slm")), [simple_policy()])
    streaming = {"stream": True, "stream_options": {"include_usage": True}}
    for name, uncalibrated in (("auto", True), ("test", False)):
        headers, _ = await ask(gateway, name)
        assert headers.get(HEADER) == ("uncalibrated" if uncalibrated else None)
        exchange = await gateway.exchange(headers["x-smallfirst-id"])
        assert exchange["uncalibrated"] is uncalibrated
        streamed, raw = await ask(gateway, name, **streaming)
        assert streamed.get(HEADER) == headers.get(HEADER)
        assert chunks_of(raw)[-1]["smallfirst"].get("uncalibrated") == (True if uncalibrated else None)
    counted = [
        line for line in (await metrics(gateway)).splitlines() if "smallfirst_uncalibrated_total{" in line
    ]
    assert counted == ['smallfirst_uncalibrated_total{policy="auto"} 2.0']

    def recorded() -> list[bool]:
        lines = [
            json.loads(line) for path in home.glob("records-1/*") for line in path.read_text().splitlines()
        ]
        return [line["uncalibrated"] for line in lines if line["type"] == "exchange"]

    await until(lambda: sorted(recorded()) == [False, False, True, True])


async def test_a_calibrator_that_appears_changes_or_goes_is_followed(start: StartGateway, slm: Scripted):
    """As `smallfirst calibrate` writes it in another terminal, with a file beside that is moved into place."""
    gateway = await start(settings_of(upstream(slm, "slm"), policies={"reload": LOOK}))

    async def confidence() -> tuple[str | None, str]:
        headers, _ = await ask(gateway)
        return headers.get(HEADER), headers["x-smallfirst-confidence"]

    async def becomes(expected: tuple[str | None, str]) -> None:
        async def holds() -> bool:
            return await confidence() == expected

        await until(holds)

    before = await confidence()
    assert before[0] == "uncalibrated"
    path = Calibrators().path_for(SMALL)
    path.parent.mkdir(parents=True)
    draft = path.with_name("draft.tmp")
    draft.write_text(simple_calibrator().model_dump_json())
    draft.replace(path)
    await becomes((None, "0.9813"))
    path.write_text(simple_calibrator().model_dump_json().replace("4.0", "8.0"))
    await becomes((None, "0.9996"))
    shutil.rmtree(path.parent)
    await becomes(before)


async def test_the_settings_name_a_calibrator_and_its_changes_are_followed(
    start: StartGateway, slm: Scripted, home: Path
):
    own = home / "own.json"
    own.write_text(simple_calibrator().model_dump_json())
    settings = settings_of(upstream(slm, "slm"), calibrators={"SMALL": own}, policies={"reload": LOOK})
    gateway = await start(settings)
    headers, _ = await ask(gateway)
    assert (headers.get(HEADER), headers["x-smallfirst-confidence"]) == (None, "0.9813")
    own.write_text(simple_calibrator().model_dump_json().replace("4.0", "8.0"))

    async def has_changed() -> bool:
        return (await ask(gateway))[0]["x-smallfirst-confidence"] == "0.9996"

    await until(has_changed)


async def test_a_calibrator_of_another_model_in_the_settings_is_an_error(
    start: StartGateway, slm: Scripted, home: Path
):
    own = home / "own.json"
    own.write_text(simple_calibrator(model="other").model_dump_json())
    gateway = await start(settings_of(upstream(slm, "slm"), calibrators={"small": own}))
    status, _, raw = await gateway.post("/chat/completions", {"model": "auto", "messages": QUESTION})
    error = json.loads(raw)["error"]
    assert (status, error["code"]) == (400, "policy_unavailable")
    assert "its calibrator is made for other on openai" in error["message"]
    assert "small-server is small on openai" in error["message"]


@pytest.mark.parametrize(
    ("router", "uncalibrated"),
    [
        (Cascade(accept=0.5, calibrator=GENERIC), True),
        (Cascade(accept=0.5, calibrator=calibrator()), False),
        (hedge(calibrator=GENERIC).router, True),
        (Speculative(otherwise=Cascade(accept=0.5, calibrator=GENERIC)), True),
        (Speculative(otherwise=Cascade(accept=0.5, calibrator=calibrator())), False),
        (Speculative(otherwise=Direct(tier="slm")), False),
        (Direct(tier="slm", follow=True), False),
    ],
)
def test_a_strategy_is_uncalibrated_by_the_calibrator_that_it_uses(router: Router, uncalibrated: bool):
    assert policy(router).is_uncalibrated(Request()) is uncalibrated


def test_an_answer_under_a_constraint_is_judged_by_its_own_calibrator():
    router = Cascade(accept=0.5, calibrator=GENERIC, constrained_calibrator=constrained_calibrator())
    constrained = Policy(name="test", description="x", router=router)
    assert constrained.is_uncalibrated(Request())
    assert not constrained.is_uncalibrated(Request(renormalised=True))
