"""Whom a client connects to, whom it believes, and what it says where it can't."""

import asyncio
import gc
import ipaddress
import shutil
import socket
import ssl
import subprocess
import weakref
from pathlib import Path
from typing import cast

import pytest
from support.raw_server import Answers, listening
from support.waiting import soon, until

from gateway.timers import Deadlines
from gateway.upstreams.transport.connection import Connection
from gateway.upstreams.transport.dialing import connect_first, dial, interleave_families
from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.transport.origin import build_request_head, parse_origin
from gateway.upstreams.transport.transport import TransportError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def client_of(url: str, tls: ssl.SSLContext | None = None, connect: float = 5.0) -> HttpTransport:
    return HttpTransport(url, {}, connect=connect, gap=5.0, tls=tls)


async def answer(client: HttpTransport, url: str) -> bytes:
    try:
        response = await client.post(url, b"{}", 5.0)
        return await response.read()
    finally:
        await client.close()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Signed by itself, for localhost."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command is not here")
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2"]
    files = ["-keyout", str(path), "-out", str(path.with_suffix(".crt"))]
    subprocess.run(["openssl", "req", "-x509", *kind, *names, *files], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + path.with_suffix(".crt").read_bytes())
    return path


@pytest.fixture
def served_as(certificate: Path) -> tuple[ssl.SSLContext, list[str | None]]:
    """The server's context, and the names that clients have asked it for."""
    context, asked = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(certificate)
    context.sni_callback = lambda _, name, __: asked.append(name)
    return context, asked


async def test_a_server_whose_certificate_is_trusted_is_asked(
    certificate: Path, served_as: tuple[ssl.SSLContext, list[str | None]]
):
    context, asked = served_as
    server = Answers(OK, OK)
    async with listening(server.serve, context) as port:
        url = f"https://localhost:{port}/v1"
        client = client_of(url, ssl.create_default_context(cafile=certificate))
        response = await client.post(url, bytes(2**21), 5.0)
        assert await response.read() == b"ok"
        response.close()
        assert await answer(client, url) == b"ok"
    assert (asked, server.connections, len(server.bodies[0])) == (["localhost"], 1, 2**21)


async def test_a_server_whose_certificate_is_not_trusted_is_told_nothing(
    certificate: Path, served_as: tuple[ssl.SSLContext, list[str | None]]
):
    server = Answers(OK)
    async with listening(server.serve, served_as[0]) as port:
        for host, tls, why in [
            ("localhost", None, "self-signed certificate"),
            ("127.0.0.1", ssl.create_default_context(cafile=certificate), "127.0.0.1"),
        ]:
            url = f"https://{host}:{port}/v1"
            with pytest.raises(
                TransportError, match=f"cannot connect: its certificate cannot be trusted: .*{why}"
            ) as down:
                await answer(client_of(url, tls), url)
            assert (down.value.why, down.value.before_response) == ("down", True)
    assert server.heads == []


async def test_a_server_without_tls_is_told_nothing():
    server = Answers()
    async with listening(server.serve) as port:
        url = f"https://127.0.0.1:{port}/v1"
        with pytest.raises(TransportError) as late:
            await answer(client_of(url, connect=0.1), url)
        assert (late.value.why, str(late.value)) == ("timeout", "no connection within 0.1 s")
    server = Answers(b"HTTP/1.1 400 Bad Request\r\n\r\n", closes=True)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(serve) as port:
        url = f"https://127.0.0.1:{port}/v1"
        with pytest.raises(TransportError, match="cannot connect: TLS failed: wrong version number"):
            await answer(client_of(url), url)


async def test_a_port_where_nothing_listens_is_down():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        for host in ("127.0.0.1", "localhost"):
            url = f"http://{host}:{bound.getsockname()[1]}/"
            with pytest.raises(TransportError, match=r"cannot connect: .*[Cc]onne") as down:
                await answer(client_of(url), url)
            assert (down.value.why, down.value.before_response) == ("down", True)


async def test_a_name_that_does_not_resolve_is_down():
    with pytest.raises(TransportError, match="cannot connect: ") as down:
        await answer(client_of("http://nowhere.invalid"), "http://nowhere.invalid")
    assert down.value.why == "down"


async def test_an_ipv6_address_is_asked():
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no IPv6")
    server = Answers(OK)
    async with listening(server.serve, host="::1") as port:
        url = f"http://[::1]:{port}/"
        assert await answer(client_of(url), url) == b"ok"
    assert f"Host: [::1]:{port}\r\n".encode() in server.heads[0]


def test_families_are_tried_in_turn():
    found = [(6, "a6"), (6, "b6"), (6, "c6"), (4, "a4"), (4, "b4")]
    assert interleave_families(found) == ["a6", "a4", "b6", "b4", "c6"]
    assert interleave_families([]) == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("secure", [False, True])
async def test_a_dial_that_is_cancelled_at_any_turn_leaves_no_connection_and_no_deadline(
    certificate: Path, served_as: tuple[ssl.SSLContext, list[str | None]], host: str, secure: bool
):
    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    deadlines, made = Deadlines(), weakref.WeakSet[Connection]()

    def new_connection() -> Connection:
        connection = Connection(deadlines, lambda closed: None)
        made.add(connection)
        return connection

    tls = ssl.create_default_context(cafile=certificate) if secure else None
    async with listening(serve, served_as[0] if secure else None) as port:
        origin = parse_origin(f"http://{host}:{port}")
        for turns in range(60 if secure else 20):
            dialling = asyncio.ensure_future(dial(new_connection, origin, tls, 5.0))
            for _ in range(turns % 30):
                await asyncio.sleep(0)
            dialling.cancel()
            await asyncio.wait([dialling])
            if not dialling.cancelled() and dialling.exception() is None:
                dialling.result().close()
            del dialling
        await until(lambda: not deadlines.pending)
        if not secure:  # uvloop keeps a handshake that was cancelled until its own time limit, a minute
            gc.collect()
            await until(lambda: not made)


class Attempt:
    """An attempt to connect that ends when a test says so."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ends: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.closed = asyncio.Event()

    async def connect(self) -> Connection:
        self.begun.set()
        await self.ends
        return cast(Connection, self)

    def close(self) -> None:
        self.closed.set()


async def test_an_address_that_does_not_answer_holds_up_the_next_only_briefly():
    silent, good, last = Attempt(), Attempt(), Attempt()
    racing = asyncio.ensure_future(connect_first([silent.connect, good.connect, last.connect]))
    await soon(good.begun.wait())
    good.ends.set_result(None)
    assert await racing is good
    await asyncio.sleep(0)
    assert (silent.ends.cancelled(), good.closed.is_set(), last.begun.is_set()) == (True, False, False)


async def test_of_two_addresses_that_answer_at_once_one_is_kept():
    one, two = Attempt(), Attempt()
    racing = asyncio.ensure_future(connect_first([one.connect, two.connect]))
    await soon(two.begun.wait())
    one.ends.set_result(None)
    two.ends.set_result(None)
    kept = await racing
    await soon((two if kept is one else one).closed.wait())
    assert not kept.closed.is_set()


async def test_an_address_that_refuses_is_followed_at_once_and_the_last_error_is_told():
    one, two = Attempt(), Attempt()
    racing = asyncio.ensure_future(connect_first([one.connect, two.connect]))
    one.ends.set_exception(OSError("one"))
    two.ends.set_exception(OSError("two"))
    with pytest.raises(OSError, match="two"):
        await racing
    with pytest.raises(OSError, match="no address"):
        await connect_first([])


@pytest.mark.parametrize(
    ("url", "line", "host"),
    [
        ("http://a.test", "POST / HTTP/1.1", "a.test"),
        ("http://a.test:80/v1?x=1#part", "POST /v1?x=1 HTTP/1.1", "a.test"),
        ("https://a.test:443/a%20b", "POST /a%20b HTTP/1.1", "a.test"),
        ("https://a.test:80/a b/ü", "POST /a%20b/%C3%BC HTTP/1.1", "a.test:80"),
        ("http://[::1]:8080/", "POST / HTTP/1.1", "[::1]:8080"),
        ("https://[::1]/", "POST / HTTP/1.1", "[::1]"),
    ],
)
def test_a_request_names_its_target_and_its_host(url: str, line: str, host: str):
    lines = build_request_head("POST", url, {"X-Own": "1"}).decode().split("\r\n")
    assert (lines[0], lines[-1]) == (line, "")
    assert {f"Host: {host}", "X-Own: 1"} < set(lines)


def test_headers_that_are_given_replace_ours():
    lines = build_request_head("GET", "http://a.test/", {"host": "b.test", "USER-AGENT": "me"}).split(b"\r\n")
    assert lines == [b"GET / HTTP/1.1", b"host: b.test", b"USER-AGENT: me", b""]


@pytest.mark.parametrize("value", ["secret\r\nX-Evil: 1", "secret\n", "\rsecret", "sec\0ret"])
def test_a_header_that_would_break_the_request_is_refused_without_its_value(value: str):
    with pytest.raises(ValueError, match="'X-Key'") as refused:
        HttpTransport("http://a.test", {"X-Note": "fine", "X-Key": value}, connect=5.0, gap=5.0)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("name", ["X Key", "X-Key:", "", "X\r\n", "Content-Length", "transfer-encoding"])
def test_a_header_that_is_not_ours_to_set_is_refused(name: str):
    with pytest.raises(ValueError, match="header"):
        HttpTransport("http://a.test", {name: "1"}, connect=5.0, gap=5.0)


@pytest.mark.parametrize("url", ["ftp://a.test", "a.test", "http://", "http://me:secret@a.test"])
def test_a_url_that_can_not_be_asked_is_refused(url: str):
    with pytest.raises(ValueError, match="URL") as refused:
        client_of(url)
    assert "secret" not in str(refused.value)


async def test_another_origin_is_not_asked():
    client = client_of("http://a.test")
    for url in ("http://b.test/", "https://a.test/", "http://a.test:81/"):
        with pytest.raises(ValueError, match="another server"):
            await client.post(url, b"", 5.0)


def test_the_origin_is_what_a_url_names():
    assert parse_origin("HTTPS://A.test/x") == ("https", "a.test", 443)
    assert ipaddress.ip_address(parse_origin("http://[::1]:80").host)
