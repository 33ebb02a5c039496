"""The kinds of servers by the values of an upstream's `engine`."""

from . import deepseek, llamacpp, mistral, openai, vllm
from .server_kind import Engine, ServerKind

SERVER_KINDS: dict[Engine, ServerKind] = {
    "openai": openai.KIND,
    "llamacpp": llamacpp.KIND,
    "vllm": vllm.KIND,
    "mistral": mistral.KIND,
    "deepseek": deepseek.KIND,
}
