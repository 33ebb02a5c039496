"""GuideLLM, unmodified, measures the gateway as it measures any OpenAI-compatible server."""

import asyncio
import json
import os
from pathlib import Path

import pytest
from support.client_environments import NotInstalled, install
from support.client_scenarios import ALONE, Case
from support.pairwise import every_pair

from benchmarks.vllm import environment as vllm

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.heavy, pytest.mark.vllm]

REQUESTS = 4


@pytest.fixture(scope="module")
def guidellm() -> Path:
    if reason := vllm.lacking():
        pytest.skip(reason)
    try:
        return install("guidellm", str(vllm.python())) / "guidellm"
    except NotInstalled as reason:
        pytest.skip(str(reason))


@every_pair(policy_name=["auto"], sure=ALONE)
async def test_guidellm_measures_streams(case: Case, guidellm: Path, tmp_path: Path):
    case.talk()
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        str(guidellm),
        "run",
        f"--backend=kind=openai_http,target={case.gateway.url},model={case.model}",
        "--profile=kind=synchronous",
        f"--constraint=kind=max_requests,count={REQUESTS}",
        "--data=kind=synthetic_text,prompt_tokens=16,output_tokens=8",
        f"--tokenizer=kind=huggingface_auto,model={vllm.models() / 'smollm2'}",
        f"--output=kind=json,path={report}",
        "--disable-progress",
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, output[-2000:]
    (benchmark,) = json.loads(report.read_text())["benchmarks"]
    counts = benchmark["metrics"]["request_totals"]
    assert (counts["successful"], counts["errored"]) == (REQUESTS, 0)
    assert await case.routes() == [case.by] * REQUESTS
