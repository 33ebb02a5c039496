"""A page in a real browser asks the gateway: a listed page gets answers, streams and errors, another gets nothing."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from aiohttp import web
from support.gateways import StartGateway, settings_of, upstream
from support.scripted_server import Reply, Scripted

pytestmark = pytest.mark.heavy

PAGE = """<!doctype html><pre id="out"></pre><script type="module">
const ask = async (body) => {
  const response = await fetch("URL/chat/completions", {
    method: "POST",
    headers: { "Content-Type": "application/json", "x-stainless-lang": "js" },
    body: JSON.stringify({ model: "large", messages: [{ role: "user", content: "How is it?" }], ...body }),
  });
  return { status: response.status, route: response.headers.get("x-smallfirst-route"), text: await response.text() };
};
const tried = {};
for (const [name, body] of [["plain", {}], ["stream", { stream: true }], ["error", { messages: 7 }]]) {
  try { tried[name] = await ask(body); } catch (error) { tried[name] = error.name; }
}
document.getElementById("out").textContent = JSON.stringify(tried);
</script>"""


@pytest.fixture
def chromium() -> str:
    command = shutil.which("chromium") or shutil.which("google-chrome")
    if command is None:
        pytest.skip("no Chromium on the PATH")
    return command


class Site:
    """Serves the page from an origin of its own."""

    def __init__(self) -> None:
        self.origin = ""
        self.gateway_url = ""

    async def serve_page(self, request: web.Request) -> web.Response:
        return web.Response(text=PAGE.replace("URL", self.gateway_url), content_type="text/html")


@pytest_asyncio.fixture
async def site() -> AsyncIterator[Site]:
    made = Site()
    app = web.Application()
    app.router.add_get("/", made.serve_page)
    runner = web.AppRunner(app)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    made.origin = listener.name
    yield made
    await runner.cleanup()


async def open_page(chromium: str, site: Site, profile: Path) -> dict[str, Any]:
    """Return what the page's requests gave."""
    process = await asyncio.create_subprocess_exec(
        chromium,
        *("--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"),
        *("--virtual-time-budget=20000", "--dump-dom", f"{site.origin}/"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    output = (await process.communicate())[0].decode()
    found = re.search(r'<pre id="out">(.+?)</pre>', output, re.DOTALL)
    assert found is not None, output
    return dict(json.loads(unescape(found[1])))


@pytest.mark.parametrize("is_listed", [True, False], ids=["listed", "foreign"])
async def test_only_a_listed_page_gets_answers(
    start: StartGateway, llm: Scripted, site: Site, chromium: str, tmp_path: Path, is_listed: bool
):
    listen = {"origins": [site.origin]} if is_listed else {}
    gateway = await start(settings_of(upstream(llm, "llm"), listen=listen))
    site.gateway_url = gateway.url
    llm.says(Reply("It is cold."))
    tried = await open_page(chromium, site, tmp_path / "profile")
    if not is_listed:
        assert tried == dict.fromkeys(("plain", "stream", "error"), "TypeError")
        assert llm.requests == []
        return
    assert (tried["plain"]["status"], tried["plain"]["route"]) == (200, "llm")
    assert "It is cold." in tried["plain"]["text"]
    assert tried["stream"]["text"].endswith("data: [DONE]\n\n")
    assert tried["error"]["status"] == 400
    assert json.loads(tried["error"]["text"])["error"]["param"] == "messages"
