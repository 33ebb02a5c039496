"""Reads what an error response says, in the shapes and words of many servers."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import orjson

MAX_DEPTH = 8
"""Levels of objects and lists that are searched for a message."""

MESSAGE_KEYS = ("message", "msg", "detail", "error", "errors", "Message", "error_message", "title")
"""Keys whose value says what is wrong, the most telling first."""


class Refusal(NamedTuple):
    """What an error response says. Texts are empty if it does not say them.

    is_standard: whether the message stands where OpenAI's does, so that it can be passed on word for word.
    """

    message: str = ""
    code: str = ""
    type: str = ""
    param: str | None = None
    is_standard: bool = False

    @property
    def is_context_overflow(self) -> bool:
        """Whether the prompt, or the prompt and the answer together, exceed the model's context."""
        return self.code in CONTEXT_CODES or self.type in CONTEXT_CODES or bool(_CONTEXT.search(self.message))

    @property
    def lacks_tool_parser(self) -> bool:
        """Whether the server was started without the options that vLLM needs for tools."""
        return bool(_TOOL_OPTIONS.search(self.message))

    @property
    def is_out_of_quota(self) -> bool:
        """Whether the account's credit is used up, which no waiting cures."""
        return self.code in QUOTA_CODES or self.type in QUOTA_CODES


def read_refusal(body: bytes) -> Refusal:
    """Return what the body of an error response says, in JSON or in plain text; nothing if it is a page."""
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError:
        text = body.decode(errors="replace").strip()
        return Refusal("" if text.startswith("<") else text)
    fields = _find_fields(parsed)
    message = fields.get("message")
    return Refusal(
        message="; ".join(dict.fromkeys(_find_messages(parsed))),
        code=_find_text(fields, "code", "status"),
        type=_find_text(fields, "type"),
        param=_find_text(fields, "param") or None,
        is_standard=isinstance(parsed, dict) and isinstance(message, str) and bool(message),
    )


def _find_fields(value: Any) -> dict[str, Any]:
    """Return the object that has the error's fields: it is under `error`, or in a list, or the whole body."""
    for _ in range(MAX_DEPTH):
        if isinstance(value, list):
            value = value[0] if value else {}
        elif isinstance(value, dict) and isinstance(value.get("error"), dict | list):
            value = value["error"]
        else:
            break
    return value if isinstance(value, dict) else {}


def _find_text(fields: dict[str, Any], *keys: str) -> str:
    """Return the first text under one of the keys, else the first number: mostly the HTTP status once more."""
    values = [fields.get(key) for key in keys]
    texts = [value for value in values if isinstance(value, str) and value]
    numbers = [str(value) for value in values if type(value) is int]
    return next(iter([*texts, *numbers]), "")


def _find_messages(value: Any, depth: int = 0) -> Iterator[str]:
    if depth > MAX_DEPTH:
        return
    if isinstance(value, str) and value:
        yield value
    elif isinstance(value, list):
        for each in value:
            yield from _find_messages(each, depth + 1)
    elif isinstance(value, dict):
        yield from _find_messages_in_object(value, depth)


def _find_messages_in_object(value: dict[str, Any], depth: int) -> Iterator[str]:
    """Yield the messages under the first key that has some, and those of a server behind an aggregator."""
    for key in MESSAGE_KEYS:
        if messages := list(_find_messages(value.get(key), depth + 1)):
            place = ".".join(map(str, value["loc"])) if isinstance(value.get("loc"), list) else ""
            yield from [f"{place}: {message}" if place else message for message in messages]
            break
    if isinstance(metadata := value.get("metadata"), dict) and isinstance(raw := metadata.get("raw"), str):
        yield read_refusal(raw.encode(errors="replace")).message or raw


QUOTA_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
"""OpenAI's codes for an account without credit, which it sends with status 429 (guide to error codes)."""

CONTEXT_CODES = frozenset({"context_length_exceeded", "exceed_context_size_error"})
"""Codes and types for a prompt that is too long: of OpenAI (and Azure, Groq), and of llama.cpp."""


class ContextWording(NamedTuple):
    """How a server words that a prompt is too long. `words` is a regular expression, `example` a real message."""

    server: str
    words: str
    example: str
    source: str


CONTEXT_WORDINGS = (
    ContextWording(
        "OpenAI, Azure, DeepSeek, OpenRouter, vLLM, SGLang, Mistral, LiteLLM",
        r"maximum context length",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
        "OpenAI's chat completions; vllm/entrypoints/openai; `_validate_one_request` of SGLang's tokenizer manager",
    ),
    ContextWording(
        "OpenAI (Responses)",
        r"exceeds? the context window",
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        "OpenAI's responses endpoint",
    ),
    ContextWording(
        "vLLM",
        r"longer than the maximum model length",
        "The decoder prompt (length 5000) is longer than the maximum model length of 4096.",
        "vllm/v1/engine/input_processor.py",
    ),
    ContextWording(
        "llama.cpp",
        r"exceeds? the available context size",
        "request (5000 tokens) exceeds the available context size (4096 tokens), try increasing it",
        "llama.cpp tools/server; pull request 15780 of ggml-org/llama.cpp added the type",
    ),
    ContextWording(
        "llama.cpp, in the middle of an answer",
        r"context size has been exceeded",
        "Context size has been exceeded.",
        "llama.cpp tools/server; issue 19774 of ggml-org/llama.cpp: sent with status 500",
    ),
    ContextWording(
        "llama-cpp-python",
        r"exceed context window",
        "Requested tokens (5000) exceed context window of 4096",
        "llama_cpp/llama.py",
    ),
    ContextWording(
        "SGLang, Together",
        r"longer than the model's context length",
        "The input (5000 tokens) is longer than the model's context length (4096 tokens).",
        "`_validate_one_request` in sglang/srt/managers/tokenizer_manager.py",
    ),
    ContextWording(
        "Anthropic",
        r"prompt is too long",
        "prompt is too long: 210000 tokens > 200000 maximum",
        "Anthropic's documentation of context windows",
    ),
    ContextWording(
        "Anthropic",
        r"exceed context limit",
        "input length and `max_tokens` exceed context limit: 188059 + 20000 > 200000",
        "Anthropic's documentation of context windows",
    ),
    ContextWording(
        "Gemini",
        r"input token count.{0,40}exceeds the maximum",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "Gemini API, status INVALID_ARGUMENT",
    ),
    ContextWording(
        "xAI",
        r"maximum prompt length is \d",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "xAI's chat completions",
    ),
    ContextWording(
        "Bedrock",
        r"input is too long for (the )?requested model",
        "Input is too long for requested model.",
        "Bedrock runtime, ValidationException",
    ),
    ContextWording(
        "Groq",
        r"reduce the length of the messages",
        "Please reduce the length of the messages or completion.",
        "Groq's chat completions",
    ),
    ContextWording(
        "Ollama, LM Studio",
        r"(exceeds|greater than) the (maximum )?context length",
        "the input length exceeds the context length",
        "ollama server/routes.go; LM Studio's server",
    ),
    ContextWording(
        "Text Generation Inference",
        r"`inputs` tokens \+ `max_new_tokens` must be <=",
        "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 and 20",
        "text-generation-inference router/src/validation.rs",
    ),
    ContextWording(
        "Kimi",
        r"exceeded model token limit",
        "Invalid request: Your request exceeded model token limit: 131072",
        "Moonshot's chat completions",
    ),
)
"""Wordings of a prompt that is too long. Most servers give it the status 400 and no code of its own."""

_CONTEXT = re.compile("|".join(f"(?:{wording.words})" for wording in CONTEXT_WORDINGS), re.IGNORECASE)

_TOOL_OPTIONS = re.compile(r"--(enable-auto-tool-choice|tool-call-parser)\b")
"""vLLM's words: '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set' (with
status 400; vllm/renderers/online_renderer.py)."""
