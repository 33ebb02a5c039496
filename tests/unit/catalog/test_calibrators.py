"""Which calibrator a small model gets, and where one that is trained for it is written."""

import logging
from pathlib import Path
from typing import Any

import pytest
from support.gateways import simple_calibrator

from gateway.catalog.calibrators import Calibrators, ServedCalibrator
from gateway.upstreams.pool import Pool
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from policies.loading.policy_files import PolicyFiles
from policies.loading.regular_files import read_file
from policies.loading.trained_files import (
    GENERIC_CALIBRATOR,
    SHIPPED_CALIBRATORS,
    STOCK_CALIBRATOR,
    read_trained,
)
from routers.confidence.calibration import Calibrator, Fingerprint, LogprobSource

FILES = Fingerprint(weights="a1", quantisation="Q4_K_M", chat_template="c1", parameters=100)
SMALL = LogprobSource(model="org/Small", engine="openai", fingerprint=FILES)
DEFAULT = LogprobSource(model="smollm2-135m-instruct", engine="llamacpp")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "calibrators"
    path.mkdir()
    return path


def write(path: Path, made_for: LogprobSource = SMALL) -> Path:
    path.write_text(simple_calibrator().model_copy(update={"made_for": made_for}).model_dump_json())
    return path


def test_a_calibrator_is_written_under_its_models_name_engine_and_digest(folder: Path):
    calibrators = Calibrators(folder=folder)
    digest = FILES.digest
    assert digest is not None
    assert calibrators.path_for(SMALL) == folder / f"small.openai.{digest[:12]}.json"
    odd = LogprobSource(model="My Model/ä:4", engine="vllm")
    assert calibrators.path_for(odd) == folder / "4.vllm.unknown.json"


def test_the_users_folder_is_the_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Calibrators().path_for(SMALL).parent == tmp_path / "smallfirst" / "calibrators"


def test_the_settings_win_then_the_users_then_those_that_ship_then_the_generic_one(folder: Path):
    calibrators = Calibrators(folder=folder)
    assert calibrators.find(SMALL) == GENERIC_CALIBRATOR
    assert calibrators.find(DEFAULT) == STOCK_CALIBRATOR
    own = write(folder / "mine.json", DEFAULT)
    assert calibrators.find(DEFAULT) == own
    named = Path("/nowhere/of-another-model.json")
    assert Calibrators({"SmolLM2-135M-Instruct": named}, folder).find(DEFAULT) == named
    assert Calibrators({"other": named}, folder).find(DEFAULT) == own


def test_of_the_users_those_that_know_the_files_win(folder: Path):
    calibrators = Calibrators(folder=folder)
    write(folder / "a.json", SMALL.model_copy(update={"fingerprint": None}))
    assert calibrators.find(SMALL) == folder / "a.json"
    write(folder / "b.json", SMALL)
    assert calibrators.find(SMALL) == folder / "b.json"
    written = write(calibrators.path_for(SMALL))
    assert calibrators.find(SMALL) == written
    others = SMALL.model_copy(update={"fingerprint": FILES.model_copy(update={"weights": "b2"})})
    assert calibrators.find(others) == folder / "a.json"


def test_a_generic_calibrator_of_the_users_is_no_models_own(folder: Path):
    write(folder / "any.json", LogprobSource(model="any", engine="any"))
    assert Calibrators(folder=folder).find(SMALL) == GENERIC_CALIBRATOR


@pytest.mark.parametrize("content", ["{", "{}", None])
def test_a_file_that_is_no_calibrator_is_left_out_with_a_warning(
    folder: Path, caplog: pytest.LogCaptureFixture, content: str | None
):
    caplog.set_level(logging.WARNING)
    if content is None:
        (folder / "broken.json").symlink_to("nothing")
    else:
        (folder / "broken.json").write_text(content)
    write(folder / "small.json")
    assert Calibrators(folder=folder).find(SMALL) == folder / "small.json"
    assert f"{folder / 'broken.json'}" in caplog.text


def pool(*models: str, **changes: Any) -> Pool:
    fields = {"tier": "slm", "url": "http://127.0.0.1:9/v1", "engine": "llamacpp", **changes}
    return Pool(
        Upstream(UpstreamSettings.model_validate({"name": f"u{number}", "model": model, **fields}))
        for number, model in enumerate(models)
    )


@pytest.mark.parametrize(
    ("slm", "found"),
    [
        (None, STOCK_CALIBRATOR),
        (pool(DEFAULT.model), STOCK_CALIBRATOR),
        (pool(DEFAULT.model, f"org/{DEFAULT.model}"), STOCK_CALIBRATOR),
        (pool(DEFAULT.model, "other"), GENERIC_CALIBRATOR),
        (pool("other"), GENERIC_CALIBRATOR),
        (pool("judge", judges_only=True), STOCK_CALIBRATOR),
    ],
)
def test_several_small_models_share_a_calibrator_or_get_the_generic_one(
    folder: Path, slm: Pool | None, found: Path
):
    assert ServedCalibrator(Calibrators(folder=folder), slm).find(read_file) == found


def test_what_ships_is_a_calibrator_each_and_one_is_generic():
    made_for = {path: read_trained(Calibrator, path).made_for for path in SHIPPED_CALIBRATORS.glob("*.json")}
    assert [path for path, source in made_for.items() if source.is_generic] == [GENERIC_CALIBRATOR]
    for path, source in made_for.items():
        assert source.is_generic or path.name.startswith(f"{source.model}.{source.engine}")


def test_the_generic_calibrator_is_never_surer_than_the_one_for_the_default_model():
    """Nowhere that a built-in policy accepts drafts, so that it escalates more."""
    generic, own = (read_trained(Calibrator, path) for path in (GENERIC_CALIBRATOR, STOCK_CALIBRATOR))
    sure = dict(
        zip(own.signals, (c + 4 * s for c, s in zip(own.center, own.scale, strict=True)), strict=True)
    )
    for finished in (True, False):
        assert generic.confidence(sure, finished=finished) < own.confidence(sure, finished=finished)


def test_without_changes_no_file_counts_as_changed(folder: Path):
    """Neither a calibrator of another model, nor a broken one, whichever is in use."""
    write(folder / "other.json", DEFAULT)
    (folder / "broken.json").write_text("{")
    (folder / "named.txt").write_text(simple_calibrator().model_dump_json())
    for named in ({}, {"small": folder / "named.txt"}):
        files = PolicyFiles(None, ServedCalibrator(Calibrators(named, folder), pool("small")))
        files.load()
        assert files.read_stamps() == files.stamps
        assert {folder / "other.json", folder / "broken.json", *named.values()} <= files.stamps.keys()
        (folder / "new.json").write_text("{}")
        assert files.read_stamps() != files.stamps
        (folder / "new.json").unlink()
        assert files.read_stamps() == files.stamps


def test_weights_that_nobody_else_has_are_known_by_alias_size_and_template(folder: Path):
    """As SmolLM2 on vLLM: its calibrator ships, and the safetensors it was trained on were converted."""
    known = Fingerprint(chat_template="c1", parameters=100)
    made_for = LogprobSource(
        model="smollm2-135m-instruct", engine="vllm", aliases=("smollm2",), fingerprint=known
    )
    path = write(folder / "shipped.json", made_for)
    served = {"engine": "vllm", "fingerprint": FILES}
    calibrators = Calibrators(folder=folder)
    for name in ("smollm2", "SmolLM2-135M-Instruct"):
        assert calibrators.find(LogprobSource(model=name, **served)) == path
    for other in (
        LogprobSource(model="smollm2", engine="vllm"),
        LogprobSource(model="smollm", **served),
        LogprobSource(
            model="smollm2", engine="vllm", fingerprint=FILES.model_copy(update={"parameters": 360})
        ),
        LogprobSource(
            model="smollm2", engine="vllm", fingerprint=FILES.model_copy(update={"chat_template": "x"})
        ),
    ):
        assert calibrators.find(other) == GENERIC_CALIBRATOR
