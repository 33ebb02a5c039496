"""A chat model on loopback that does as it is told: it calls the tool it is given, and fills the schema it is given.

Client suites that were written for a capable model in a cloud pass with it.
"""

import json
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from support.scripted_server import Reply, Scripted

MAX_WORDS = 10


class ObedientModel(Scripted):
    """Answers each request by what it holds."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.says(build_reply(body))
        return await super().answer(request)


@asynccontextmanager
async def obedient_model(name: str) -> AsyncIterator[ObedientModel]:
    """Serve an obedient model at its `url`."""
    model = ObedientModel(name)
    app = web.Application()
    app.router.add_post("/v1/chat/completions", model.answer)
    app.router.add_get("/{path:.*}", model.look)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    model.url = f"{site.name}/v1"
    try:
        yield model
    finally:
        await runner.cleanup()


def build_reply(body: Mapping[str, Any]) -> Reply:
    """Return a tool call if a tool fits and none was called yet, JSON if JSON is demanded, else text."""
    messages = body["messages"]
    prompt = read_text(messages[-1])
    tool = choose_tool(body, messages)
    if tool is not None:
        arguments = fill(tool.get("parameters") or {}, prompt)
        return Reply(calls=[(tool["name"], json.dumps(arguments))])
    form = body.get("response_format") or {}
    if form.get("type") == "json_schema":
        return Reply(json.dumps(fill(form["json_schema"]["schema"], prompt)))
    if form.get("type") == "json_object":
        return Reply(json.dumps({"setup": "Why?", "punchline": "Because."}))
    return Reply(cut(f"You said: {prompt}", body.get("stop")))


def choose_tool(body: Mapping[str, Any], messages: list[dict[str, Any]]) -> dict[str, Any] | None:
    tools: list[dict[str, Any]] = [each["function"] for each in body.get("tools") or ()]
    choice = body.get("tool_choice")
    if not tools or choice == "none" or messages[-1]["role"] == "tool":
        return None
    if isinstance(choice, dict):
        return next(tool for tool in tools if tool["name"] == choice["function"]["name"])
    return tools[0]


def fill(schema: Mapping[str, Any], prompt: str) -> Any:
    """Return a value of the schema: the prompt's first number for numbers; its quotation or last word for strings."""
    if "enum" in schema:
        return schema["enum"][0]
    if "anyOf" in schema:
        return fill(schema["anyOf"][0], prompt)
    match schema.get("type"):
        case "integer" | "number":
            numbers = re.findall(r"\d+", prompt)
            return int(numbers[0]) if numbers else 1
        case "boolean":
            return True
        case "array":
            return [fill(schema.get("items") or {}, prompt)]
        case "string":
            return [*re.findall(r"\w+", prompt), *re.findall(r"'(.+?)'", prompt)][-1]
    return {name: fill(each, prompt) for name, each in schema.get("properties", {}).items()}


def read_text(message: Mapping[str, Any]) -> str:
    content = message.get("content") or ""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content)


def cut(text: str, stop: str | list[str] | None) -> str:
    for each in [stop] if isinstance(stop, str) else stop or ():
        text = text.partition(each)[0]
    return text
