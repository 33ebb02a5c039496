"""A local vLLM that is not: tests/support/fake_vllm under the real supervisor, and what has become of its processes."""

import json
import sys
from pathlib import Path
from typing import Any

from gateway.local.settings import LocalEngine

FAKE = Path(__file__).parent / "fake_vllm"
KINDS = ("Server", "EngineCore", "Worker")


class FakeVllm:
    """`notes` is the folder in which it says what happened."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.notes.mkdir()
        self.model = model_folder(folder / "tiny")

    def engine(self, **more: Any) -> LocalEngine:
        environment = {"PYTHONPATH": str(FAKE), "FAKE_NOTES": str(self.notes)} | more.pop("environment", {})
        fields = {"engine": "vllm", "model": str(self.model), "python": sys.executable} | more
        return LocalEngine(environment=environment, **fields)

    def pids(self, *kinds: str) -> set[int]:
        """Of those of its processes that live."""
        found = [int(note.suffix[1:]) for kind in kinds or KINDS for note in self.notes.glob(f"{kind}.*")]
        return {pid for pid in found if alive(pid)}

    @property
    def server(self) -> int:
        (pid,) = self.pids("Server")
        return pid

    @property
    def keeper(self) -> int:
        """The process that started the server."""
        return int(Path(f"/proc/{self.server}/stat").read_text().rsplit(")", 1)[1].split()[1])

    def environment(self) -> dict[str, str]:
        """What the server was given last."""
        given: dict[str, str] = json.loads((self.notes / "environment.json").read_text())
        return given

    @property
    def temporary(self) -> Path:
        """The server's folder for temporary files."""
        return Path(self.environment()["TMPDIR"])

    def seen(self, note: str) -> bool:
        return (self.notes / note).exists()


def model_folder(folder: Path, words: int = 8, *, first: str = "a", weights: int = 10) -> Path:
    """What a model at Hugging Face consists of, as far as it is looked at before a start."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"vocab_size": words}))
    vocabulary = {first: 0} | {f"word{index}": index for index in range(1, words)}
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}}))
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(weights)  # a hole: it takes no place on the disk
    return folder


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
