"""`smallfirst calibrate` with real vLLM: killed half way and resumed, beside a gateway that serves the model."""

import json
from pathlib import Path

import pytest
from support.calibrate_process import calibrating, write_items
from support.gateways import StartGateway
from support.waiting import until

from benchmarks.vllm.server import Server
from gateway.catalog.calibrators import Calibrators
from gateway.settings import load_settings
from policies.records.reader import GRADES_FILE
from policies.tuning.collection.grades import read_grades
from policies.tuning.collection.sample import stratify
from policies.tuning.starter_set import load_items
from routers.confidence.calibration import Calibrator

pytestmark = [pytest.mark.vllm, pytest.mark.heavy]

PATIENCE = 120.0
"""Seconds for some drafts, on a busy machine."""
ITEMS = [item for item in stratify(load_items()) if item.kind in ("opposites", "yes_no")][:12]
ASK = {
    "model": "auto",
    "messages": [{"role": "user", "content": "What is the capital of France?"}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture
def config(vllm_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No calibrator that ships is for it: of a server elsewhere nothing is known but its model's name."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    small = {"name": "vllm", "tier": "slm", "url": vllm_server.url, "model": vllm_server.model}
    path = tmp_path / "smallfirst.yaml"
    path.write_text(json.dumps({"local": None, "upstreams": [small | {"engine": "vllm"}]}))
    write_items(path, ITEMS)
    return path


async def test_a_killed_calibration_goes_on_and_is_used_at_once(config: Path, start: StartGateway) -> None:
    gateway = await start(load_settings(config))
    path = Calibrators().path_for(gateway.upstream("slm").source)
    folder = path.parents[1] / "calibrations" / path.stem

    async def post() -> dict[str, str]:
        status, headers, raw = await gateway.post("/chat/completions", ASK)
        assert (status, headers["x-smallfirst-route"]) == (200, "slm"), raw
        return headers

    async def is_calibrated() -> bool:
        return "x-smallfirst-calibration" not in await post()

    def count_grades() -> int:
        grades = folder / GRADES_FILE
        return grades.read_bytes().count(b"\n") if grades.exists() else 0

    headers = await post()
    assert headers["x-smallfirst-calibration"] == "uncalibrated"
    assert (await gateway.exchange(headers["x-smallfirst-id"]))["uncalibrated"] is True

    async with calibrating(config, "--quick"):
        await until(lambda: count_grades() >= 2, PATIENCE)
    killed = {grade.id: grade for grade in read_grades(folder)}
    assert 0 < len(killed) < len(ITEMS)
    assert not path.exists()

    async with calibrating(config, "--quick") as process:
        printed, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert "items are done" in said.decode()
    assert "suggested accept" in printed.decode()
    grades = read_grades(folder)
    assert killed.items() <= {grade.id: grade for grade in grades}.items()
    assert {grade.item for grade in grades} == {item.id for item in ITEMS}
    assert Calibrator.model_validate_json(path.read_bytes()).made_for == gateway.upstream("slm").source
    await until(is_calibrated)
