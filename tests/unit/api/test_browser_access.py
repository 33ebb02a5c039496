"""Web pages: which may use the gateway, and what the others get."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK

from gateway.api.listener.browser_access import BrowserAccess
from gateway.api.settings import Listen
from gateway.errors import ApiError

LISTED = "https://app.example.com"
POSTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/responses",
    "/v1/compress",
    "/v1/evaluate",
    "/tokenize",
    "/detokenize",
)
GETS = (
    "/v1/models",
    "/v1/models/test",
    "/v1/exchanges/sf-0",
    "/metrics",
    "/health",
    "/openapi.json",
    "/none",
)


@pytest.fixture
async def listed(start: StartGateway, slm: Scripted, llm: Scripted) -> Gateway:
    """A gateway that the page at LISTED may use."""
    settings = settings_of(upstream(slm, "slm"), upstream(llm, "llm"), listen={"origins": [LISTED]})
    return await start(settings, [simple_policy()])


async def ask(
    gateway: Gateway, path: str, headers: Mapping[str, str], method: str = "POST", **more: Any
) -> tuple[int, Mapping[str, str], bytes]:
    body = {"json": ASK} if method == "POST" and not more else more
    async with gateway.http.request(method, f"{gateway.root}{path}", headers=headers, **body) as response:
        return response.status, response.headers, await response.read()


FOREIGN = [
    {"Host": "evil.example"},
    {"Host": "evil.example:8000", "Origin": "http://evil.example:8000"},
    {"Host": "127.0.0.1.evil.example"},
    {"Host": "0.0.0.0:8000"},
    {"Host": "10.1.2.3"},
    {"Origin": "https://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://localhost:3000"},
    {"Origin": LISTED, "Host": "evil.example"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Dest": "image"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_a_foreign_page_is_refused_everywhere_before_anything_is_done(
    listed: Gateway, slm: Scripted, llm: Scripted, headers: dict[str, str]
):
    for path in (*POSTS, *GETS):
        method = "POST" if path in POSTS else "GET"
        status, seen, raw = await ask(listed, path, headers, method)
        assert (status, b"listen.origins" in raw) == (403, True), path
        assert "access-control-allow-origin" not in seen
    assert slm.requests == llm.requests == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Host": "localhost:9000"},
        {"Host": "LOCALHOST"},
        {"Host": "smallfirst.localhost"},
        {"Host": "[::1]:8000"},
        {"Host": "host.docker.internal:8000"},
        {"Host": "app.example.com"},
        {"Host": "localhost:8000", "Origin": "http://localhost:8000", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
    ids=str,
)
async def test_programs_of_this_machine_and_its_own_pages_are_served(
    listed: Gateway, slm: Scripted, headers: dict[str, str]
):
    slm.says(Reply("Cold."))
    status, seen, _ = await ask(listed, "/v1/chat/completions", headers)
    assert (status, "access-control-allow-origin" in seen) == (200, False)


async def test_a_link_to_the_gateway_may_be_followed_but_not_framed(gateway: Gateway):
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert (await ask(gateway, "/v1/models", link, "GET"))[0] == 200
    assert (await ask(gateway, "/v1/models", link | {"Sec-Fetch-Dest": "iframe"}, "GET"))[0] == 403
    assert (await ask(gateway, "/v1/chat/completions", link))[0] == 403


async def test_a_listed_page_may_ask_before_it_sends(listed: Gateway):
    wanted = "authorization, content-type, x-stainless-lang, x-stainless-retry-count"
    headers = {
        "Origin": LISTED,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": wanted,
    }
    for path in (*POSTS, *GETS):
        status, seen, _ = await ask(listed, path, headers, "OPTIONS")
        assert status == 204, path
        assert seen["access-control-allow-origin"] == LISTED
        assert seen["access-control-allow-headers"] == wanted
        assert {"GET", "POST", "DELETE"} <= set(seen["access-control-allow-methods"].split(", "))
        status, seen, _ = await ask(listed, path, headers | {"Origin": "https://evil.example"}, "OPTIONS")
        assert (status, "access-control-allow-origin" in seen) == (403, False)


async def test_a_listed_page_can_read_answers_streams_and_errors(listed: Gateway, slm: Scripted):
    slm.says(Reply("Cold."), Reply("Cold."))
    page = {"Origin": LISTED, "Sec-Fetch-Site": "cross-site"}
    for body, expected in ((ASK, 200), (ASK | {"stream": True}, 200), (ASK | {"model": "nobody"}, 404)):
        status, seen, _ = await ask(listed, "/v1/chat/completions", page, json=body)
        assert (status, seen["access-control-allow-origin"]) == (expected, LISTED)
        assert "origin" in seen["vary"].lower()
        own = {name.lower() for name in seen if name.lower().startswith("x-smallfirst-")}
        assert own <= set(seen.get("access-control-expose-headers", "").split(", "))
        assert own or expected == 404
    for path in ("/v1/models", "/none"):
        _, seen, _ = await ask(listed, path, page, "GET")
        assert seen["access-control-allow-origin"] == LISTED


EVERYWHERE = "0.0.0.0"  # noqa: S104  nothing is bound to it

# --- beyond loopback: any Host, but no page of another name


def admits(listen: Listen, is_loopback: bool, **headers: str) -> bool:
    access = BrowserAccess(listen.origins, is_loopback=is_loopback)
    scope = {
        "method": "POST",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }

    async def send(message: object) -> None: ...

    try:
        access.admit(scope, send)
    except ApiError:
        return False
    return True


@pytest.mark.parametrize(
    ("headers", "admitted"),
    [
        ({"host": "gateway:8000"}, True),
        ({"host": "models.example.com"}, True),
        ({"host": "192.168.1.5:8000", "origin": "http://192.168.1.5:8000"}, True),
        ({"host": "evil.example:8000", "origin": "http://evil.example:8000"}, False),
        ({"host": "192.168.1.5:8000", "origin": "http://evil.example"}, False),
        ({"host": "evil.example:8000", "sec_fetch_site": "cross-site"}, False),
    ],
)
def test_beyond_loopback_a_page_needs_an_address_or_to_be_listed(headers: dict[str, str], admitted: bool):
    assert admits(Listen(host=EVERYWHERE, open=True), False, **headers) == admitted


# --- the settings


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("https://App.Example.com", "https://app.example.com"),
        ("https://app.example.com/", "https://app.example.com"),
        ("https://app.example.com:443", "https://app.example.com"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("app://obsidian.md", "app://obsidian.md"),
    ],
)
def test_an_origin_is_kept_as_browsers_send_it(written: str, meant: str):
    assert Listen(origins=(written,)).origins == (meant,)


@pytest.mark.parametrize(
    "written",
    ["*", "null", "", "app.example.com", "https://", "https://a.test/app", "https://a@b.test", "http://a:x"],
)
def test_what_is_no_origin_is_an_error(written: str):
    with pytest.raises(ValidationError, match="expected an origin"):
        Listen(origins=(written,))


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "", "192.168.1.5", "gateway.example.com"])
def test_beyond_loopback_the_gateway_must_be_meant_to_be_open(host: str):
    with pytest.raises(ValidationError, match=r"listen\.open: true"):
        Listen(host=host)
    assert Listen(host=host, open=True).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "localhost", "::1"])
def test_on_loopback_it_need_not(host: str):
    assert Listen(host=host).host == host
