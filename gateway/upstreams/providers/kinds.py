"""The kinds of servers by the values of an upstream's `engine`."""

from . import deepseek, llamacpp, mistral, openai, vllm
from .kind import Engine, Kind

KINDS: dict[Engine, Kind] = {
    "openai": openai.KIND,
    "llamacpp": llamacpp.KIND,
    "vllm": vllm.KIND,
    "mistral": mistral.KIND,
    "deepseek": deepseek.KIND,
}
