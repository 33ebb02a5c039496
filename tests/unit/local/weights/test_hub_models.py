"""Models of a hub: what is asked of it, what is downloaded, and what is said where something is missing."""

import json
import sys
from pathlib import Path

import pytest
from support.loopback_hub import COMMIT, HubFile, LoopbackHub

from gateway.local.models.catalog import DEFAULT_CARD, ModelCatalog
from gateway.local.settings import LocalEngine, select_local_engine
from gateway.local.weights.download import FetchFailed, NotFetched
from gateway.local.weights.fetching import fetch_local_model, pull_local_model
from gateway.local.weights.reference import HubReference, LocalModel, parse_reference
from gateway.local.weights.resolution import find_local_model
from policies.loading.yaml_files import ConfigError

GGUF = b"GGUF" + bytes(range(256)) * 8
CHECKPOINT: dict[str, bytes | Path | HubFile] = {
    "config.json": json.dumps({"max_position_embeddings": 4096}).encode(),
    "tokenizer.json": b"{}",
    "model.safetensors": b"weights",
    "pytorch_model.bin": b"the same weights",
    "consolidated.safetensors": b"the same weights again",
    "original/model.safetensors": b"and again",
    "README.md": b"words",
}


class Hub:
    """Fetches from a loopback hub; `lines` is what the user is told."""

    def __init__(self, server: LoopbackHub, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.lines: list[str] = []

    def fetch(self, reference: str, **settings: object) -> LocalModel:
        local = select_local_engine(reference, None).model_copy(update=settings)
        return fetch_local_model(local, self.folder, self.lines.append)

    def pull(self, reference: str) -> LocalModel:
        return pull_local_model(select_local_engine(reference, None), self.folder, self.lines.append)

    def find(self, reference: str) -> LocalModel:
        return find_local_model(select_local_engine(reference, None), self.folder)


@pytest.fixture
def user(hub: LoopbackHub, tmp_path: Path) -> Hub:
    return Hub(hub, tmp_path / "models")


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python that has vLLM, as far as it is looked for before a download."""
    monkeypatch.setenv("SMALLFIRST_VLLM", sys.executable)


def test_a_quantisation_is_fetched_and_then_found_without_the_hub(user: Hub):
    user.server.add("smollm/test-GGUF", {"test.Q4_1.gguf": GGUF, "test.Q8_0.gguf": b"GGUF other"})
    with pytest.raises(NotFetched, match="fetch them with: smallfirst models pull smollm/test-GGUF:Q4_1"):
        user.find("smollm/test-GGUF:Q4_1")
    assert user.server.requests == []
    model = user.fetch("smollm/test-GGUF:Q4_1")
    assert (model.name, model.engine, model.path.read_bytes()) == ("test-Q4_1", "llamacpp", GGUF)
    assert "licence: apache-2.0" in user.lines[0]
    assert len(user.server.downloads()) == 1
    user.server.requests.clear()
    assert user.fetch("smollm/test-GGUF:q4_1").path == model.path
    assert user.find("hf.co/smollm/test-GGUF").path == model.path  # the only one that is here
    assert user.server.requests == []


def test_q4_k_m_is_the_default_and_the_hub_is_asked_for_what_is_there(user: Hub):
    user.server.add("u/m-GGUF", {"m-Q2_K.gguf": b"GGUF2", "m-Q4_K_M.gguf": b"GGUF4"})
    assert user.fetch("u/m-GGUF").name == "m-Q4_K_M"
    with pytest.raises(
        ConfigError, match="no quantisation Q5_0; there are: Q2_K, Q4_K_M; name one, as in u/m-GGUF:Q2_K"
    ):
        user.fetch("u/m-GGUF:Q5_0")


def test_all_parts_of_a_split_model_are_fetched(user: Hub):
    names = [f"m-Q8_0-0000{part}-of-00002.gguf" for part in (1, 2)]
    user.server.add("u/m-GGUF", {name: b"GGUF" + name.encode() for name in names})
    model = user.fetch("u/m-GGUF:Q8_0")
    assert model.path.name == names[0]
    assert sorted(path.name for path in model.path.parent.iterdir()) == names
    (model.path.parent / names[1]).unlink()
    with pytest.raises(NotFetched):
        user.find("u/m-GGUF:Q8_0")


def test_a_file_by_its_address_at_the_hub_needs_no_checksum(user: Hub):
    user.server.add("u/m-GGUF", {"sub/a.Q4_0.gguf": GGUF, "sub/b.Q4_0.gguf": b"GGUF b"})
    for address in (
        "https://huggingface.co/u/m-GGUF/resolve/main/sub/a.Q4_0.gguf",
        f"{user.server.url}/u/m-GGUF/blob/main/sub/a.Q4_0.gguf",
    ):
        model = user.fetch(address)
        assert (model.name, model.path.read_bytes()) == ("a.Q4_0", GGUF)


def test_only_the_rest_is_asked_for_after_a_download_was_cut(user: Hub):
    user.server.add("u/m-GGUF", {"m-Q4_0.gguf": GGUF})
    digest = user.server.repositories["u/m-GGUF"].files["m-Q4_0.gguf"].sha256
    partial = user.folder.parent / "hf" / "hub" / "models--u--m-GGUF" / "blobs" / f"{digest}.incomplete"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(GGUF[:1000])  # as a killed process leaves it
    assert user.fetch("u/m-GGUF").path.read_bytes() == GGUF
    (download,) = user.server.downloads()
    assert download.range == "bytes=1000-"
    assert "1000 B are here; fetching the rest" in user.lines[1]
    assert not partial.exists()


def test_a_wrong_checksum_is_told_and_nothing_is_left_of_it(user: Hub):
    user.server.add("u/m-GGUF", {"m-Q4_0.gguf": HubFile(GGUF, sha256="ab" * 32)})
    with pytest.raises(
        FetchFailed, match=r"m-Q4_0\.gguf: the checksum is wrong, and what arrived was deleted"
    ) as error:
        user.fetch("u/m-GGUF")
    assert "\n" not in str(error.value)
    assert [path for path in user.folder.parent.rglob("*") if path.is_file() and path.stat().st_size] == []
    user.server.repositories["u/m-GGUF"].files["m-Q4_0.gguf"] = HubFile(GGUF)
    assert user.fetch("u/m-GGUF").path.read_bytes() == GGUF


def test_a_gated_model_is_fetched_with_a_token_that_is_told_to_nobody(
    user: Hub, monkeypatch: pytest.MonkeyPatch
):
    user.server.add("meta/m-GGUF", {"m-Q4_0.gguf": GGUF}, gated=True)
    monkeypatch.setenv("HF_TOKEN", "hf_may_not_read")
    with pytest.raises(
        FetchFailed, match=r"meta/m-GGUF is gated: accept its terms at .*/meta/m-GGUF, and set HF_TOKEN"
    ) as error:
        user.fetch("meta/m-GGUF")
    assert "hf_may" not in str(error.value)
    monkeypatch.setenv("HF_TOKEN", "hf_may_read")
    assert user.fetch("meta/m-GGUF").path.read_bytes() == GGUF
    assert "hf_may" not in "".join(user.lines)
    by_host = {each.path.startswith("/cdn/"): each.authorization for each in user.server.requests}
    assert by_host == {False: "Bearer hf_may_read", True: None}  # the content's host is another one


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        (
            "u/none-GGUF",
            "has no u/none-GGUF, or does not show it to you: check the name; a private one needs HF_TOKEN",
        ),
        ("hf.co/u/m-GGUF/tree/v9", r"no such file or revision of hf.co/u/m-GGUF/tree/v9 \(status 404\)"),
        ("hf.co/u/m-GGUF/resolve/main/x.gguf", "u/m-GGUF holds no GGUF file|has no quantisation"),
    ],
)
def test_what_the_hub_does_not_have_is_told(user: Hub, reference: str, said: str):
    user.server.add("u/m-GGUF", {"m-Q4_0.gguf": GGUF})
    with pytest.raises(ConfigError, match=said) as error:
        user.fetch(reference)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("status", "said"),
    [(500, "with status 500: try again later"), (401, "has no|refuses"), (418, "with status 418")],
)
def test_a_hub_that_fails_is_told(user: Hub, status: int, said: str):
    user.server.status = status
    with pytest.raises(FetchFailed, match=said) as error:
        user.fetch("u/m-GGUF")
    assert "\n" not in str(error.value)


def test_a_server_that_is_no_hub_and_a_name_that_no_hub_has_are_told(user: Hub):
    user.server.plain["/api/models/u/m-GGUF/revision/main"] = HubFile(b"<html>words</html>")
    user.server.repositories.clear()
    for reference in ("u/m-GGUF", "u/a--b-GGUF"):
        with pytest.raises(FetchFailed) as error:
            user.fetch(reference)
        assert "\n" not in str(error.value)
        assert reference in str(error.value)


def test_without_a_network_it_is_told_what_to_do(user: Hub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        FetchFailed, match=r"http://127.0.0.1:9 can't be reached for u/m-GGUF \(ConnectError\)"
    ) as error:
        user.fetch("u/m-GGUF")
    assert "HF_ENDPOINT names a mirror" in str(error.value)


def test_offline_nothing_is_asked_and_what_is_here_runs(user: Hub, monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    user.server.add("u/m-GGUF", {"m-Q4_0.gguf": GGUF})
    user.fetch("u/m-GGUF")
    user.server.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert user.fetch("u/m-GGUF").path.read_bytes() == GGUF
    with pytest.raises(
        FetchFailed, match="HF_HUB_OFFLINE forbids to fetch it: unset it once, and run: smallfirst"
    ):
        user.fetch("u/m-GGUF:Q8_0")
    assert user.server.requests == []


def test_a_pull_fetches_what_is_new(user: Hub):
    repository = user.server.add("u/m-GGUF", {"m-Q4_0.gguf": GGUF})
    user.pull("u/m-GGUF")
    repository.commit, repository.files["m-Q4_0.gguf"] = "d" * 40, HubFile(GGUF + b"new")
    assert user.find("u/m-GGUF").path.read_bytes() == GGUF
    assert user.pull("u/m-GGUF").path.read_bytes() == GGUF + b"new"
    assert len(user.server.downloads()) == 2
    user.pull("u/m-GGUF")
    assert len(user.server.downloads()) == 2
    assert user.lines[-1].endswith("up to date")


@pytest.mark.parametrize(
    ("size", "settings", "said"),
    [
        (
            10**17,
            {},
            r"100000000.0 GB are to be downloaded, and the disk of .* has .* to spare; free some space",
        ),
        (
            0,
            {"context": 9999},
            "local.context: 9999 tokens, and u/m-GGUF was trained for 512; set it to 512 or less",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_not_downloaded(
    user: Hub, size: int, settings: dict[str, int], said: str
):
    user.server.add("u/m-GGUF", {"m-Q4_0.gguf": HubFile(GGUF, size=size)}, context=512)
    with pytest.raises(FetchFailed, match=said):
        user.fetch("u/m-GGUF", **{"context": 512} | settings)
    assert user.server.downloads() == []


@pytest.mark.usefixtures("vllm")
def test_a_checkpoint_is_fetched_for_vllm_and_no_weights_twice(user: Hub):
    user.server.add("org/model", CHECKPOINT)
    model = user.fetch("org/model")
    assert (model.name, model.engine, model.path.name) == ("org/model", "vllm", COMMIT)
    assert sorted(path.name for path in model.path.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    assert len(user.server.downloads()) == 1
    user.server.requests.clear()
    assert user.find("org/model").path == model.path
    (model.path / "model.safetensors").unlink()
    with pytest.raises(NotFetched):
        user.find("org/model")


@pytest.mark.usefixtures("vllm")
def test_a_checkpoint_lacks_no_shard_that_its_index_names(user: Hub):
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    shards: dict[str, bytes | Path | HubFile] = {name: name.encode() for name in index["weight_map"].values()}
    user.server.add(
        "org/model",
        {"config.json": b"{}", "model.safetensors.index.json": json.dumps(index).encode(), **shards},
    )
    model = user.fetch("org/model")
    (model.path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(NotFetched):
        user.find("org/model")


@pytest.mark.usefixtures("vllm")
def test_a_checkpoints_context_is_checked_before_its_weights_are_fetched(user: Hub):
    user.server.add("org/model", CHECKPOINT)
    with pytest.raises(FetchFailed, match=r"local\.context: 5000 tokens, and org/model was trained for 4096"):
        user.fetch("org/model", context=5000)
    assert user.server.downloads() == []


def test_a_repository_of_gguf_files_alone_is_llama_cpps_whatever_its_name(user: Hub):
    user.server.add("org/model", {"m-Q4_K_M.gguf": GGUF, "config.json": b"{}"})
    model = user.fetch("org/model")
    assert (model.engine, model.name) == ("llamacpp", "model-Q4_K_M")
    assert user.find("org/model") == model
    assert LocalEngine(model="org/model").run_by(model.engine).engine == "llamacpp"


@pytest.mark.usefixtures("vllm")
def test_a_name_of_the_catalog_is_kept_by_weights_from_a_hub(user: Hub):
    names = ("m-Q4_K_M.gguf", "m-Q8_0.gguf")
    user.server.add("bartowski/SmolLM2-360M-Instruct-GGUF", {name: name.encode() for name in names})
    user.server.add("HuggingFaceTB/SmolLM2-360M-Instruct", CHECKPOINT)
    with pytest.raises(NotFetched, match="smallfirst models pull smollm2:360m"):
        user.find("smollm2:360m")
    with pytest.raises(FetchFailed, match="the KV cache of 1000000 slots of 8192 tokens"):
        user.fetch("smollm2:360m", context=8192, slots=10**6)
    model = user.fetch("smollm2:360m")
    assert (model.name, model.engine) == ("smollm2-360m-instruct", "llamacpp")
    assert model.path.read_bytes() == b"m-Q4_K_M.gguf"
    local = LocalEngine(engine="vllm", model="smollm2-360m-instruct")
    by_vllm = fetch_local_model(local, user.folder, user.lines.append)
    assert (by_vllm.name, by_vllm.engine) == ("smollm2-360m-instruct", "vllm")


def test_the_built_in_row_is_the_catalogs():
    card = ModelCatalog.load().find(DEFAULT_CARD.name)
    assert card is not None
    cells = DEFAULT_CARD.model_fields_set - {"sources"}
    assert card.model_dump(include=cells) == DEFAULT_CARD.model_dump(include=cells)


def test_a_row_without_gguf_is_vllms_and_every_row_is_a_reference():
    for card in ModelCatalog.load().cards:
        reference = parse_reference(card.name)
        assert reference.engine == ("vllm" if card.gguf is None else "llamacpp")
        assert reference.model_name == card.name
        if card.safetensors is not None:
            assert parse_reference(card.safetensors) == HubReference(card.safetensors)


def test_without_vllm_the_error_ends_with_what_runs_here(user: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("SMALLFIRST_VLLM", raising=False)
    user.server.add("org/model", CHECKPOINT)
    with pytest.raises(ConfigError, match=r"vLLM is not installed here.*SMALLFIRST_VLLM$"):
        user.fetch("org/model")
    user.server.add("bartowski/model-GGUF", {"m-Q4_K_M.gguf": GGUF})
    user.server.add("org/model-GGUF", {"m-Q4_K_M.gguf": GGUF})
    with pytest.raises(ConfigError, match=r"llama.cpp runs it here: smallfirst serve --slm org/model-GGUF$"):
        user.fetch("org/model")
    del user.server.repositories["org/model-GGUF"]
    with pytest.raises(ConfigError, match=r"smallfirst serve --slm bartowski/model-GGUF$"):
        user.fetch("org/model")
    user.server.add("HuggingFaceTB/SmolLM2-135M-Instruct", CHECKPOINT)
    with pytest.raises(ConfigError, match=r"smallfirst serve --slm smollm2-135m-instruct$"):
        user.fetch("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert user.server.downloads() == []
