"""A model that the gateway has never seen, on the real llama.cpp: it answers at once, and is calibrated by a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.gateways import StartGateway
from support.waiting import until

from gateway.catalog.calibrators import Calibrators
from gateway.data_folder import data_folder
from gateway.settings import LocalEngine, Settings
from policies.loading.trained_files import STOCK_CALIBRATOR, read_trained
from routers.confidence.calibration import Calibrator

pytestmark = [pytest.mark.engine, pytest.mark.heavy]

ASK = {
    "model": "auto",
    "messages": [{"role": "user", "content": "What is the capital of France? Answer with one word."}],
    "max_tokens": 8,
    "temperature": 0,
}


@pytest.fixture
def calibrators() -> Iterator[Path]:
    folder = data_folder() / "calibrators"
    folder.mkdir()
    yield folder
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


async def test_a_model_by_its_path_is_served_and_calibrated_while_it_runs(
    start: StartGateway, weights: Path, calibrators: Path
):
    model = weights / "qwen2.5-coder-1.5b-instruct.Q4_K_M.gguf"
    if not model.is_file():
        pytest.skip("the 1.5B model is not here: make weights")
    gateway = await start(Settings(local=LocalEngine(threads=1, model=str(model))))
    status, headers, raw = await gateway.post("/chat/completions", ASK)
    assert (status, headers["x-smallfirst-calibration"]) == (200, "uncalibrated")
    assert (headers["x-smallfirst-route"], "x-smallfirst-confidence" in headers) == ("slm", True)
    assert b"Paris" in raw

    source = gateway.upstream("slm").source
    assert source.fingerprint is not None
    own = read_trained(Calibrator, STOCK_CALIBRATOR).model_copy(update={"made_for": source})
    path = Calibrators().path_for(source)
    assert path.parent == calibrators
    path.write_text(own.model_dump_json())

    async def is_calibrated() -> bool:
        status, headers, _ = await gateway.post("/chat/completions", ASK)
        assert status == 200
        return "x-smallfirst-calibration" not in headers

    await until(is_calibrated)
