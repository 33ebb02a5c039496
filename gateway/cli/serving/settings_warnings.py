"""Warns of settings that work, but not as one might expect."""

from collections.abc import Iterator

from gateway.local.settings import LocalEngine
from gateway.local.vllm.model_folders import find_doubtful_names
from gateway.local.vllm.tool_parsers import choose_tool_parser, explain_missing_tools
from gateway.settings import Settings


def find_settings_warnings(settings: Settings) -> Iterator[str]:
    """Yield a sentence per warning, after the key that it is about."""
    local = settings.local
    if local is not None and local.engine == "vllm":
        yield from _find_vllm_warnings(local)
    adapters = [name for upstream in settings.upstreams for name in upstream.adapters]
    adapters += [] if local is None else local.adapters
    if adapters and not settings.expose_models:
        names = ", ".join(dict.fromkeys(adapters))
        yield f"adapters: no request can name {names}, unless expose_models is true"


def _find_vllm_warnings(local: LocalEngine) -> Iterator[str]:
    yield from find_doubtful_names(local)
    if local.tool_parser is not None and choose_tool_parser(local) is None:
        yield f"local: it gets no requests with tools: {explain_missing_tools(local)}"
    if local.speculative is not None and local.speculative.method == "draft_model":
        yield (
            "local.speculative: with draft_model, vLLM has spoiled answers at temperature 0 that were written beside"
            " others at a higher temperature (seen in 0.32 on a CPU): ask it at one temperature only"
        )
