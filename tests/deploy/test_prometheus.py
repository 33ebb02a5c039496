"""Prometheus accepts the configuration, its rules fire when they should, and it answers every panel."""

import asyncio
import http.client
import json
import math
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest
import yaml
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.waiting import PATIENCE

from deploy.grafana.overview import queries
from policies.schema.evaluate import Evaluate
from routers.judges.evaluators import Structure

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "deploy" / "prometheus" / "prometheus.yml"
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RATE_INTERVAL = "10s"

needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on the PATH")


def promtool(*arguments: str) -> None:
    checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@needs_promtool
def test_promtool_accepts_the_configuration() -> None:
    promtool("check", "config", str(CONFIG))


@needs_promtool
def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(RULES))


def requests(route: str, values: str) -> dict[str, str]:
    return {"series": f'smallfirst_requests_total{{policy="p",route="{route}"}}', "values": values}


def first_tokens(bound: str, per_minute: int) -> dict[str, str]:
    series = f'smallfirst_time_to_first_token_seconds_bucket{{policy="p",route="slm",le="{bound}"}}'
    return {"series": series, "values": f"0+{per_minute}x30"}


def up(values: str) -> dict[str, str]:
    return {"series": 'smallfirst_upstream_up{upstream="u",tier="llm"}', "values": values}


def stale(values: str) -> dict[str, str]:
    return {"series": 'smallfirst_policies_stale{instance="i"}', "values": values}


# Per minute: 60 requests by the small model for an hour, then 30 of them go on to the LLM.
JUMP = [requests("slm", "0+60x60 3630+30x30"), requests("slm+llm", "_x60 0+30x30")]
STEADY = [requests("slm", "0+30x90"), requests("slm+llm", "0+30x90")]
SPARSE = [requests("slm", "0+1x60 60+0x30"), requests("slm+llm", "_x60 0+1x30")]
SLOW = [first_tokens("5.0", 0), first_tokens("10.0", 60), first_tokens("+Inf", 60)]
FAST = [first_tokens("5.0", 60), first_tokens("10.0", 60), first_tokens("+Inf", 60)]


@needs_promtool
@pytest.mark.parametrize(
    ("alert", "series", "at", "labels"),
    [
        ("SmallfirstUpstreamDown", [up("1 1 0 0 0")], "4m", {"upstream": "u", "tier": "llm"}),
        ("SmallfirstUpstreamDown", [up("1 1 1 1 0")], "4m", None),
        ("SmallfirstEscalationShareJumped", JUMP, "80m", {"policy": "p"}),
        ("SmallfirstEscalationShareJumped", JUMP, "60m", None),
        ("SmallfirstEscalationShareJumped", STEADY, "80m", None),
        ("SmallfirstEscalationShareJumped", SPARSE, "80m", None),
        ("SmallfirstFirstTokenSlow", SLOW, "25m", {"policy": "p"}),
        ("SmallfirstFirstTokenSlow", FAST, "25m", None),
        ("SmallfirstPoliciesStale", [stale("0 1 1 1 1 1 1 1")], "7m", {"instance": "i"}),
        ("SmallfirstPoliciesStale", [stale("0 1 1 1 0 1 1 1")], "7m", None),
    ],
)
def test_an_alert_fires_when_it_should(
    tmp_path: Path, alert: str, series: list[dict[str, str]], at: str, labels: dict[str, str] | None
) -> None:
    """By the alert's state rather than its annotations, whose wording is free."""
    matchers = {"alertname": alert, "alertstate": "firing", **(labels or {})}
    firing = ",".join(f'{key}="{text}"' for key, text in matchers.items())
    question = {
        "expr": f"count(ALERTS{{{firing}}})",
        "eval_time": at,
        "exp_samples": [] if labels is None else [{"labels": "{}", "value": 1}],
    }
    unit = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [question]}],
    }
    file = tmp_path / "unit.yml"
    file.write_text(yaml.safe_dump(unit))

    promtool("test", "rules", str(file))


def test_every_alert_has_a_summary() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]
    alerts = [rule for rule in rules if "alert" in rule]

    assert len(alerts) == 4
    assert all(rule["annotations"]["summary"] for rule in alerts)


ASK = {"messages": [{"role": "user", "content": "Hi?"}]}


async def traffic(gateway: Gateway, slm: Scripted, llm: Scripted) -> None:
    """Without end: an answer of the small model, an escalated one that the first LLM fails, a stream, and one asked
    of the LLM."""
    while True:
        llm.says(Reply(status=500), Reply())
        slm.says(
            Reply("It is cold."), Reply("Maybe blue?", logprobs=-1.5), Reply("one two three four five six")
        )
        for body in (
            {"model": "test"},
            {"model": "test"},
            {"model": "test", "stream": True},
            {"model": "large"},
        ):
            await gateway.post("/chat/completions", ASK | body)


@pytest.fixture
async def gateway(start: StartGateway, slm: Scripted, llm: Scripted, spare: Scripted) -> Gateway:
    """With an LLM that makes the first one's failures good."""
    judged = simple_policy().replace(evaluate=Evaluate(share=1, evaluators=(Structure(kind="structure"),)))
    llms = upstream(llm, "llm"), upstream(spare, "llm", model="large", priority=1)
    served: Gateway = await start(settings_of(upstream(slm, "slm"), *llms), [judged])
    return served


@pytest.fixture
def scrape_target(gateway: Gateway) -> str:
    return f"{gateway.root}/metrics"


@pytest.fixture
def prometheus(scrape_target: str, tmp_path: Path) -> Iterator[int]:
    """The port of a Prometheus that scrapes the target each second."""
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("prometheus is not on the PATH")
    port = free_port()
    log_path = tmp_path / "prometheus.log"
    command = [
        binary,
        f"--config.file={scrape_config(scrape_target, tmp_path)}",
        f"--storage.tsdb.path={tmp_path / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (
        log_path.open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log, cwd=tmp_path) as process,
    ):
        try:
            wait_until(lambda: is_ready(process, port, log_path), "Prometheus is ready")
            yield port
        finally:
            stop(process)


def scrape_config(target: str, folder: Path) -> Path:
    url = urlsplit(target)
    job = {
        "job_name": "smallfirst",
        "metrics_path": url.path,
        "static_configs": [{"targets": [url.netloc]}],
    }
    path = folder / "prometheus.yml"
    path.write_text(yaml.safe_dump({"global": {"scrape_interval": "1s"}, "scrape_configs": [job]}))
    return path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> bool:
    assert process.poll() is None, log.read_text()
    return get(port, "/-/ready")[0] == 200


def stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise


def get(port: int, path: str) -> tuple[int, bytes]:
    """The status and the body; the status is 0 while nothing listens."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def wait_until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.1)


def finite_values(port: int, promql: str) -> list[float]:
    """The finite values that Prometheus answers now; a query that it refuses fails the test."""
    status, body = get(port, "/api/v1/query?" + urlencode({"query": promql}))
    assert status == 200, (promql, body)
    values = [float(sample["value"][1]) for sample in json.loads(body)["data"]["result"]]
    return [value for value in values if math.isfinite(value)]


def answer_all(port: int) -> None:
    unanswered = [
        (title, promql.replace("$__rate_interval", RATE_INTERVAL).replace("$policy", ".*"))
        for title, promql in queries()
    ]

    def all_answered() -> bool:
        unanswered[:] = [query for query in unanswered if not finite_values(port, query[1])]
        return not unanswered

    deadline = time.monotonic() + PATIENCE
    while not all_answered():
        assert time.monotonic() < deadline, f"no finite sample within {PATIENCE} s: {unanswered}"
        time.sleep(0.1)


@pytest.mark.heavy
@pytest.mark.prometheus
async def test_every_panel_query_returns_data(
    prometheus: int, gateway: Gateway, slm: Scripted, llm: Scripted
) -> None:
    """A real Prometheus, scraping a real gateway under traffic."""
    asking = asyncio.create_task(traffic(gateway, slm, llm))
    try:
        await asyncio.to_thread(answer_all, prometheus)
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
