"""Finds out that an engine hangs: its process lives, but it writes no more tokens.

A server's health page says little: another thread answers it than the one that writes.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import NamedTuple

import orjson

from gateway.upstreams.health import fetch_metrics
from gateway.upstreams.transport.http_client import HttpTransport
from gateway.upstreams.transport.transport import TransportError
from gateway.upstreams.upstream import Upstream

TOKEN_COUNTERS = re.compile(r"^(?:llamacpp|vllm):(?:n_decode|\w*tokens\w*)_total\S* \S+", re.MULTILINE)
"""The lines of an engine's metrics that change while it reads or writes."""


class VitalSigns(NamedTuple):
    """How an engine is asked whether it lives.

    `write_token` returns once the engine has written a token for us. `read_counters` returns its counters of tokens.
    `report` is called with whether it has shown a sign of life in the last `min_silence_s` seconds. After `limit_s`
    seconds without one, it hangs. It is checked every `interval_s`, and during a check every `poll_s`.
    """

    write_token: Callable[[], Awaitable[None]]
    read_counters: Callable[[], Awaitable[str]]
    report: Callable[[bool], None]
    limit_s: float
    min_silence_s: float = 10.0
    interval_s: float = 10.0
    poll_s: float = 1.0


async def wait_until_hung(signs: VitalSigns) -> None:
    """Return once the engine hangs."""
    while await _shows_life(signs):
        signs.report(True)
        await asyncio.sleep(signs.interval_s)


async def _shows_life(signs: VitalSigns) -> bool:
    """Ask for a token, and return whether the engine shows a sign of life within the limit.

    A busy engine writes our token late, but its counters show that it writes for others.
    """
    counters = await _read_counters(signs)
    silent_s = 0.0
    asking = asyncio.ensure_future(signs.write_token())
    try:
        while silent_s < signs.limit_s:
            began = asyncio.get_running_loop().time()
            await asyncio.wait([asking], timeout=signs.poll_s)
            if asking.done():
                if asking.exception() is None:
                    return True
                asking = asyncio.ensure_future(_write_later(signs))
            latest = await _read_counters(signs)
            if latest and counters and latest != counters:
                return True
            counters = latest or counters
            # A gateway that stood still itself must not blame the engine for that time.
            silent_s += min(asyncio.get_running_loop().time() - began, 2 * signs.poll_s)
            if silent_s >= signs.min_silence_s:
                signs.report(False)
        return False
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _write_later(signs: VitalSigns) -> None:
    await asyncio.sleep(signs.poll_s)
    await signs.write_token()


async def _read_counters(signs: VitalSigns) -> str:
    """Return the counters; empty if the engine does not show them in time."""
    try:
        async with asyncio.timeout(signs.poll_s):
            return await signs.read_counters()
    except (TransportError, TimeoutError, ValueError):
        return ""


def build_vital_signs(upstream: Upstream, limit_s: float) -> VitalSigns:
    return VitalSigns(
        partial(_write_token, upstream, limit_s),
        partial(_read_token_counters, upstream),
        upstream.record_probe,
        limit_s,
    )


async def _write_token(upstream: Upstream, timeout_s: float) -> None:
    """Have the engine write a token, past the limit on calls in flight. Raises TransportError.

    A refusal of the request is an answer too: a model may write no text.
    """
    url = upstream.url("completions")
    # Greedy: a sampled token in one batch with a greedy answer has spoiled that answer, in a vLLM with a draft model.
    body = orjson.dumps({"model": upstream.model, "prompt": "Hello", "max_tokens": 1, "temperature": 0.0})
    client = HttpTransport(url, upstream.probe.headers, connect=timeout_s, gap=timeout_s, keep_alive=False)
    try:
        response = await client.post(url, body, timeout_s)
        await response.read()
    finally:
        await client.close()
    if response.status >= 500:
        raise TransportError("garbage", f"status {response.status} and no token", before_response=False)


async def _read_token_counters(upstream: Upstream) -> str:
    """Raises TransportError, TimeoutError or ValueError."""
    return "\n".join(TOKEN_COUNTERS.findall(await fetch_metrics(upstream)))
