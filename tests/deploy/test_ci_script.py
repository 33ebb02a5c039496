"""`.ci/run` installs system packages only where it is told to, or on a CI machine."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / ".ci" / "run"
INSTALL = "apt-get install -y -qq --no-install-recommends prometheus docker-compose nginx chromium"


@pytest.fixture
def commands(tmp_path: Path) -> Path:
    """A PATH for root on a machine without the packages: what would be run is noted, and not done."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("make", "apt-get"):
        (folder / name).write_text(f'#!{shutil.which("sh")}\necho {name} "$@" >> {tmp_path / "ran"}\n')
    (folder / "id").write_text(f"#!{shutil.which('sh')}\necho 0\n")
    for path in folder.iterdir():
        path.chmod(0o755)
    for name in ("dirname", "realpath"):
        (folder / name).symlink_to(shutil.which(name) or pytest.fail(f"no {name}"))
    return folder


def ran(commands: Path, **environment: str) -> list[str]:
    """The commands that the script runs."""
    subprocess.run(
        [shutil.which("bash") or "bash", SCRIPT], env={"PATH": str(commands), **environment}, check=True
    )
    return (commands.parent / "ran").read_text().splitlines()


@pytest.mark.parametrize(
    "environment",
    [{}, {"CI": "false"}, {"CI": ""}, {"CI": "true", "INSTALL_SYSTEM_PACKAGES": "0"}],
)
def test_a_developers_machine_is_left_alone(commands: Path, environment: dict[str, str]) -> None:
    assert ran(commands, **environment) == ["make lint", "make test", "make heavy"]


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"INSTALL_SYSTEM_PACKAGES": "1"}])
def test_ci_and_whoever_says_so_get_the_packages(commands: Path, environment: dict[str, str]) -> None:
    assert ran(commands, **environment) == [
        "apt-get update -qq",
        INSTALL,
        "make lint",
        "make test",
        "make heavy",
    ]
