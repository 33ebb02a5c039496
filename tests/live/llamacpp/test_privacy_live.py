"""Redaction around the real llama.cpp."""

from pathlib import Path
from typing import Any

import pytest
from support.gateways import StartGateway
from support.redaction_check import check_cloaked

from gateway.settings import LocalEngine, Settings

pytestmark = [pytest.mark.engine, pytest.mark.heavy]


async def test_llamacpp_gets_placeholders_and_the_client_its_own_words(
    start: StartGateway, weights: Any, tmp_path: Path
):
    await check_cloaked(start, Settings(local=LocalEngine(threads=1)), tmp_path)
