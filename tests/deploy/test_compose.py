"""docker-compose.yml is valid, and keeps what it promises about ports, secrets and health."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not on the PATH")
@pytest.mark.parametrize("profile", [[], ["--profile", "gpu"]], ids=["default", "gpu"])
def test_docker_compose_accepts_the_file(profile: list[str]) -> None:
    environment = {key: text for key, text in os.environ.items() if key != "OPENAI_API_KEY"}
    command = ["docker-compose", "--file", str(COMPOSE), *profile, "config", "--quiet"]

    checked = subprocess.run(command, env=environment, capture_output=True, text=True)

    assert checked.returncode == 0, checked.stderr
    assert checked.stderr == ""


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_published_on_the_loopback_address_only(name: str) -> None:
    assert all(port.startswith("127.0.0.1:") for port in SERVICES[name].get("ports", []))
    assert SERVICES[name].get("network_mode") is None


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_healthcheck(name: str) -> None:
    assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_from_the_checkout_exists(name: str) -> None:
    sources = [volume.split(":")[0] for volume in SERVICES[name].get("volumes", [])]
    assert [source for source in sources if source.startswith(".") and not (ROOT / source).exists()] == []


def test_the_api_key_comes_from_the_environment() -> None:
    assert SERVICES["gateway"]["environment"] == ["OPENAI_API_KEY"]
    assert "sk-" not in COMPOSE.read_text()


def test_vllm_starts_only_with_the_gpu_profile() -> None:
    profiles = {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service}
    assert profiles == {"vllm": ["gpu"]}
