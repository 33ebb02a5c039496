"""Where `smallfirst serve` listens, what it says of that, and whom it keeps waiting."""

import asyncio
import resource
import socket
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path

import aiohttp
import pytest
from support.gateway_process import serve
from support.gateways import upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK
from support.waiting import soon
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.serving.serve import override_listen
from gateway.cli.serving.server import describe_address
from gateway.settings import Settings
from policies.loading.yaml_files import ConfigError

EVERYWHERE = "0.0.0.0"  # noqa: S104  only a free port of it is taken, for a moment


@pytest.mark.parametrize(
    ("host", "address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:{}/v1", "http://127.0.0.1:{}"),
        ("127.0.0.2", "http://127.0.0.2:{}/v1", "http://127.0.0.2:{}"),
        ("::1", "http://[::1]:{}/v1", "http://[::1]:{}"),
        (
            EVERYWHERE,
            "all addresses of this machine, port {0}: http://127.0.0.1:{0}/v1 from here",
            "http://127.0.0.1:{}",
        ),
    ],
)
def test_the_banner_says_where_it_listens(host: str, address: str, url: str):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        try:
            listener.bind((host, 0))
        except OSError as error:
            pytest.skip(str(error))
        port = listener.getsockname()[1]
        assert describe_address(listener) == (address.format(port), url.format(port))


@pytest.mark.parametrize("command", [["serve"], ["check"]], ids=" ".join)
def test_what_other_machines_reach_is_meant_to_be_open(tmp_path: Path, command: list[str]):
    config = tmp_path / "smallfirst.yaml"
    config.write_text(f"local: null\nlisten:\n  host: {EVERYWHERE}\n")
    result = CliRunner().invoke(app, [*command, "--config", str(config)])
    assert result.exit_code != 0
    assert "smallfirst.yaml:2: listen: " in result.output.replace("\n", "")
    assert "listen.open: true" in " ".join(result.output.split())


def test_so_is_what_the_command_line_names(slm: Scripted):
    settings = Settings(local=None, upstreams=(upstream(slm, "slm"),))
    with pytest.raises(
        ConfigError, match=r"--host: host '0\.0\.0\.0' lets other machines.*listen\.open: true"
    ):
        override_listen(settings, EVERYWHERE, None)
    with pytest.raises(ConfigError, match="--port: Input should be less than or equal to 65535"):
        override_listen(settings, None, 70_000)
    settings = Settings(local=None, upstreams=(upstream(slm, "slm"),), listen={"open": True})
    assert override_listen(settings, EVERYWHERE, 9000).listen.host == EVERYWHERE
    assert override_listen(settings, None, None) == settings


@contextmanager
def few_open_files() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (200, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_half_requests_by_the_hundred_shut_nobody_out_where_few_files_may_be_open(
    tmp_path: Path, slm: Scripted
):
    slm.says(Reply("Cold."))
    async with AsyncExitStack() as stack:
        with few_open_files():
            _, url = await stack.enter_async_context(serve(tmp_path, upstreams=[upstream(slm, "slm")]))
        for _ in range(300):
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            stack.callback(writer.close)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\n")
        http = await stack.enter_async_context(aiohttp.ClientSession())
        body = ASK | {"model": "offline"}
        answer = await soon(http.post(f"{url}/v1/chat/completions", json=body))
        assert answer.status == 200
