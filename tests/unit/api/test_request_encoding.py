"""How a request's body is sent: its content type and its content coding."""

import gzip
import json
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.gateways import Gateway, StartGateway, settings_of, simple_policy, upstream
from support.scripted_server import Reply, Scripted
from support.strategy_requests import ASK

from gateway.api.request_body import read_body
from gateway.errors import ApiError

BODY = json.dumps(ASK).encode()
POSTS = ("/chat/completions", "/completions", "/embeddings", "/responses", "/compress", "/evaluate")


async def post(gateway: Gateway, path: str, data: bytes, **headers: str) -> tuple[int, dict[str, Any]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    skipped = () if "Content_Type" in headers else ("Content-Type",)
    async with gateway.http.post(
        f"{gateway.url}{path}", data=data, headers=named, skip_auto_headers=skipped
    ) as response:
        return response.status, await response.json()


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "", None],
)
async def test_a_body_that_is_not_sent_as_json_is_refused(
    gateway: Gateway, slm: Scripted, llm: Scripted, content_type: str | None
):
    headers = {} if content_type is None else {"Content_Type": content_type}
    for path in (*POSTS, "/../tokenize", "/../detokenize"):
        status, answer = await post(gateway, path, BODY, **headers)
        assert (status, answer["error"]["code"]) == (415, "unsupported_media_type"), path
        assert "Content-Type: application/json" in answer["error"]["message"]
        assert ("no content type" in answer["error"]["message"]) == (not content_type)
    assert slm.requests == llm.requests == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "Application/JSON; charset=utf-8", "application/vnd.api+json"]
)
async def test_json_is_taken_under_its_types(gateway: Gateway, slm: Scripted, content_type: str):
    slm.says(Reply("Cold."))
    assert (await post(gateway, "/chat/completions", BODY, Content_Type=content_type))[0] == 200


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


ENCODED = {
    "gzip": gzip.compress(BODY),
    "x-gzip": gzip.compress(BODY),
    "GZIP": gzip.compress(BODY[:9]) + gzip.compress(BODY[9:]),
    "deflate": zlib.compress(BODY),
    "Deflate": bare_deflate(BODY),
    "identity": BODY,
}


async def test_a_compressed_body_is_decompressed(gateway: Gateway, slm: Scripted):
    slm.says(Reply("Cold."))
    for coding, data in ENCODED.items():
        headers = {"Content_Type": "application/json", "Content_Encoding": coding}
        assert (await post(gateway, "/chat/completions", data, **headers))[0] == 200, coding
        assert slm.requests[-1]["messages"] == ASK["messages"]


@pytest.mark.parametrize(
    ("coding", "data", "status", "code"),
    [
        ("br", BODY, 415, "unsupported_media_type"),
        ("gzip, gzip", gzip.compress(gzip.compress(BODY)), 415, "unsupported_media_type"),
        ("gzip", BODY, 400, "invalid_json"),
        ("gzip", gzip.compress(BODY)[:-9], 400, "invalid_json"),
        ("gzip", gzip.compress(b"") * 100 + gzip.compress(BODY), 400, "invalid_json"),
        ("gzip", gzip.compress(bytes(200_000)), 413, "body_too_large"),
        ("deflate", zlib.compress(bytes(200_000)), 413, "body_too_large"),
        ("gzip", b"", 400, "invalid_json"),
    ],
    ids=range(8),
)
async def test_what_is_not_decompressed_is_refused(
    start: StartGateway, slm: Scripted, coding: str, data: bytes, status: int, code: str
):
    gateway = await start(
        settings_of(upstream(slm, "slm"), listen={"body_limit": 100_000}), [simple_policy()]
    )
    headers = {"Content_Type": "application/json", "Content_Encoding": coding}
    seen, answer = await post(gateway, "/chat/completions", data, **headers)
    assert (seen, answer["error"]["code"]) == (status, code)


async def read(body: bytes, coding: bytes, limit: int) -> bytes:
    scope = {"headers": [(b"content-type", b"application/json"), (b"content-encoding", coding)]}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return await read_body(scope, receive, limit)


@given(
    parts=st.lists(st.binary() | st.integers(0, 500).map(bytes), min_size=1, max_size=5),
    limit=st.integers(1, 500),
)
async def test_any_body_comes_back_whole_or_is_over_the_limit(parts: list[bytes], limit: int):
    data = b"".join(parts)
    compressed = b"".join(map(gzip.compress, parts))
    limit = max(limit, len(compressed))
    if len(data) <= limit:
        assert await read(compressed, b"gzip", limit) == data
        return
    with pytest.raises(ApiError) as refused:
        await read(compressed, b"gzip", limit)
    assert refused.value.code == "body_too_large"
