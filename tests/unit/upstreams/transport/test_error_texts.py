"""Errors about servers speak of what came or what failed, in the words of the system, and never in Python's."""

import errno
import re
import socket
import ssl

import pytest
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted

from gateway.upstreams.transport.malformed import MISSHAPEN, parsing
from gateway.upstreams.transport.transport import Garbage, describe_os_error, quote

PYTHON = re.compile(r"Error\b|Exception|None|NoneType|\bb'|Errno|object is not|subscriptable|\('")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "Connection reset by peer"),
        (OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 9)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong (_ssl.c:1)"), "TLS failed: unknown"),
        (OSError("the host has no address"), "the host has no address"),
        (OSError(), "the connection failed"),
        (None, "the connection was closed"),
        (
            RuntimeError("unable to perform operation on <TCPTransport closed=True>"),
            "the connection was closed",
        ),
    ],
)
def test_a_lost_connection_is_told_in_the_systems_words(error: Exception | None, text: str):
    assert describe_os_error(error) == text


@pytest.mark.parametrize("fault", MISSHAPEN)
def test_a_malformed_answer_is_told_without_pythons_words(fault: type[Exception]):
    with pytest.raises(Garbage) as told, parsing("a list of models"):
        raise fault("choices")
    assert str(told.value).startswith("not a list of models: ")
    assert not PYTHON.search(str(told.value))


@pytest.mark.parametrize(
    "body", ["{}", "[1]", "5", "no JSON", '{"choices": 7}', '{"choices": [5]}', "", "\x00é"]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_no_clients_error_shows_pythons_wording(
    start: StartGateway, llm: Scripted, body: str, stream: bool
):
    gateway = await start(settings_of(upstream(llm, "llm")))
    raw = f"data: {body}\n\n".encode()
    llm.says(Reply(body=body) if not stream else Reply(raw=raw))
    request = {"model": "large", "messages": [{"role": "user", "content": "Hi?"}], "stream": stream}
    status, _, answer = await gateway.post("/chat/completions", request)
    assert status in (200, 502)
    assert not PYTHON.search(answer.decode())


def test_what_came_is_quoted_as_text():
    assert quote(b'<html> "caf\xc3\xa9" \xff') == '"<html> \\"café\\" \ufffd"'
    assert len(quote(b"x" * 1000)) == 82
