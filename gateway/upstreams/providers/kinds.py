"""The kinds of servers that an upstream's `engine` may name."""

from . import deepseek, llamacpp, mistral, openai, vllm
from .kind import Engine, Kind

KINDS: dict[Engine, Kind] = {
    "openai": openai.KIND,
    "llamacpp": llamacpp.KIND,
    "vllm": vllm.KIND,
    "mistral": mistral.KIND,
    "deepseek": deepseek.KIND,
}
