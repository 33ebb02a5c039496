"""smallfirst check --probe: what upstreams can do, found out by asking."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from click.testing import Result
from typer.testing import CliRunner

from gateway.cli import app
from gateway.upstreams.capability_probe import CHECKS

TOOL_CAPABILITIES = {"function": "tools", "custom": "custom_tools"}


class Server:
    """Can do what `can` names, and as servers do ignores or refuses the rest."""

    def __init__(self, *can: str) -> None:
        self.can = set(can)
        self.asked: list[dict[str, Any]] = []
        self.listed: dict[str, Any] = {"id": "large"}

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "other", "context_length": 1}, self.listed]})

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.asked.append(body)
        endpoint = request.path.removeprefix("/v1/")
        if self.refuses(endpoint, body):
            return web.json_response({"error": {"message": "not here", "code": "x"}}, status=400)
        if endpoint == "embeddings":
            return web.json_response({"data": [{"embedding": [0.5]}]})
        if "prompt" in body:
            return web.json_response({"choices": [self.completed(body)]})
        choice = {"message": {"content": self.content(body)}, "logprobs": self.logprobs(body)}
        usage = {
            "completion_tokens_details": {"accepted_prediction_tokens": 0} if "prediction" in self.can else {}
        }
        count = body.get("n", 1) if "choices" in self.can else 1
        return web.json_response({"choices": [choice] * count, "usage": usage})

    def refuses(self, endpoint: str, body: dict[str, Any]) -> bool:
        parts = isinstance(body.get("messages", [{}])[0].get("content"), list)
        return (
            (endpoint == "embeddings" and "embeddings" not in self.can)
            or (endpoint == "completions" and "completions" not in self.can)
            or ("min_p" in body and "min_p" not in self.can)
            or not {TOOL_CAPABILITIES[tool["type"]] for tool in body.get("tools", [])} <= self.can
            or (parts and "vision" not in self.can)
            or ("max_tokens" in body and "reasons" in self.can)
        )

    def completed(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("echo") and "scoring" in self.can:
            return {
                "text": f"{body['prompt']} four",
                "logprobs": {"token_logprobs": [None, -1.0, -1.0, -1.0]},
            }
        return {"text": " there", "logprobs": {"token_logprobs": [-1.0]}}

    def content(self, body: dict[str, Any]) -> str | None:
        if "response_format" in body and "json_schema" in self.can:
            return '{"a":'
        if "logit_bias" in body and "logit_bias" in self.can:
            return next(iter(body["logit_bias"]))
        if "structured_outputs" in body and self.constrains(body["structured_outputs"]):
            return "xyzzy" if "choice" in body["structured_outputs"] else "xyyyz"
        last = body["messages"][-1]
        if last["role"] == "assistant":
            begun = last["content"] if "echoes" in self.can else ""
            return f"{begun}is." if "prefill" in self.can else "The capital"
        return None if "reasons" in self.can else "Hello"

    def constrains(self, asked: dict[str, Any]) -> bool:
        return ("grammar" if "choice" in asked else "structured_outputs") in self.can

    def logprobs(self, body: dict[str, Any]) -> dict[str, Any] | None:
        if not body.get("logprobs") or "logprobs" not in self.can:
            return None
        return {"content": [{"top_logprobs": [{}] * min(5, body.get("top_logprobs", 0))}]}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        application = web.Application()
        application.router.add_post("/{path:.*}", self.answer)
        application.router.add_get("/v1/models", self.models)
        runner = web.AppRunner(application, shutdown_timeout=0.02)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        finally:
            await runner.cleanup()


async def check(tmp_path: Path, url: str, **more: Any) -> Result:
    path = tmp_path / "smallfirst.yaml"
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    path.write_text(
        f'upstreams: [{{name: far, tier: llm, url: "{url}", model: large, key: sk-secret{extra}}}]\nlocal: null\n'
    )
    return await asyncio.to_thread(CliRunner().invoke, app, ["check", "--probe", "--config", str(path)])


def found(result: Result) -> dict[str, list[str]]:
    """Of each capability: said, found, and a note where they differ."""
    assert result.exit_code == 0, result.output
    lines = [line.split() for line in result.stdout.splitlines() if line.startswith("  ")]
    return {name: rest for name, *rest in lines if name != "said"}


ALL = [name for name in CHECKS if name != "top_logprobs"]


@pytest.mark.parametrize("capability", ALL)
async def test_each_capability_is_found_where_it_is_and_only_there(tmp_path: Path, capability: str):
    needed = {"scoring": ["completions"]}
    server = Server(capability, *needed.get(capability, []))
    async with server.running() as url:
        result = await check(tmp_path, url)
    shown = found(result)
    assert {name for name in ALL if shown[name][1] == "yes"} == server.can
    assert "sk-secret" not in result.output


async def test_said_and_found_stand_beside_each_other(tmp_path: Path):
    async with Server("logprobs", "prefill", "echoes").running() as url:
        shown = found(await check(tmp_path, url, capabilities="{vision: false}"))
    assert list(shown) == ["context", *CHECKS]
    assert shown["logprobs"] == ["yes", "yes"]
    assert shown["top_logprobs"] == ["20", "5", "differs"]
    assert shown["vision"] == ["no", "no"]
    assert shown["tools"] == ["yes", "no", "differs"]
    assert shown["prefill"] == ["no", "yes", "differs"]


@pytest.mark.parametrize(
    ("engine", "entry"),
    [
        ("openai", {"context_length": 4096}),
        ("llamacpp", {"meta": {"n_ctx": 4096, "n_ctx_train": 8192}}),
        ("vllm", {"max_model_len": 4096}),
        ("mistral", {"max_context_length": 4096}),
    ],
)
async def test_the_context_is_read_where_the_kind_tells_it(
    tmp_path: Path, engine: str, entry: dict[str, Any]
):
    server = Server()
    async with server.running() as url:
        assert found(await check(tmp_path, url, engine=engine))["context"] == ["unknown", "unknown"]
        server.listed |= entry
        assert found(await check(tmp_path, url, engine=engine))["context"] == ["unknown", "4096", "differs"]
        assert found(await check(tmp_path, url, engine=engine, context=4096))["context"] == ["4096", "4096"]


async def test_a_model_that_refuses_max_tokens_is_limited_otherwise(tmp_path: Path):
    server = Server("reasons", "tools")
    async with server.running() as url:
        assert found(await check(tmp_path, url))["tools"] == ["yes", "yes"]
    assert all("max_completion_tokens" in body for body in server.asked[1:] if "messages" in body)


async def test_answers_are_a_few_tokens_short(tmp_path: Path):
    server = Server(*ALL)
    async with server.running() as url:
        await check(tmp_path, url)
    assert sum(body.get("max_tokens", 0) for body in server.asked) < 50
    assert all("max_tokens" in body for body in server.asked if "input" not in body)


async def test_an_upstream_that_does_not_answer_is_said_to_be_untried(tmp_path: Path):
    result = await check(tmp_path, "http://127.0.0.1:9/v1", limits="{retries: 0}")
    assert result.exit_code == 0
    assert "far: not tried: far: cannot connect" in result.stdout
    assert "policy auto: ok" in result.stdout
