"""Names of tools in namespaces, which chat does not have: there the namespace becomes a part of the name."""

import re
from collections.abc import Iterator
from itertools import count
from typing import Any

from gateway.wire.body_types import Body

MAX_NAME = 64
"""Maximum characters of a tool's name in chat."""


class ToolNames:
    """The names that a /v1/responses body's tools have in chat. `tools` need not be well formed."""

    def __init__(self, tools: Any) -> None:
        self._chat_names: dict[tuple[str, str], str] = {}
        self._namespaced: dict[str, tuple[str, str]] = {}
        if isinstance(tools, list) and any(_is_namespace(tool) for tool in tools):
            taken = {tool.get("name") for tool in tools if isinstance(tool, dict)}
            for namespace, name in _list_namespaced(tools):
                chat_name = next(each for each in _list_candidates(namespace, name) if each not in taken)
                taken.add(chat_name)
                self._chat_names[namespace, name] = chat_name
                self._namespaced[chat_name] = namespace, name

    def to_chat(self, name: str, namespace: Any = None) -> str:
        """Return a tool's name in chat. A name without its namespace is enough if only one namespace has it."""
        if isinstance(namespace, str) and namespace:
            known = self._chat_names.get((namespace, name))
            return known or next(_list_candidates(namespace, name))
        found = [chat_name for (_, own_name), chat_name in self._chat_names.items() if own_name == name]
        return found[0] if len(found) == 1 else name

    def flatten_item(self, item: Any) -> Any:
        """Return an item of an input with its name in chat, if it is a call of a tool in a namespace."""
        if isinstance(item, dict) and item.get("namespace") and isinstance(item.get("name"), str):
            return item | {"name": self.to_chat(item["name"], item["namespace"])}
        return item

    def to_item(self, chat_name: str) -> Body:
        """Return the fields that name a tool in an item: `name`, and `namespace` if it is in one."""
        if chat_name not in self._namespaced:
            return {"name": chat_name}
        namespace, name = self._namespaced[chat_name]
        return {"name": name, "namespace": namespace}


def _is_namespace(tool: Any) -> bool:
    return isinstance(tool, dict) and tool.get("type") == "namespace"


def _list_namespaced(tools: list[Any]) -> Iterator[tuple[str, str]]:
    """Yield the namespace and the name of each tool in a namespace, once."""
    names = [
        (tool["name"], inner["name"])
        for tool in filter(_is_namespace, tools)
        for inner in (tool["tools"] if isinstance(tool.get("tools"), list) else ())
        if isinstance(tool.get("name"), str)
        and isinstance(inner, dict)
        and isinstance(inner.get("name"), str)
    ]
    return iter(dict.fromkeys(names))


def _list_candidates(namespace: str, name: str) -> Iterator[str]:
    """Yield possible names in chat, the best first. They have only characters that chat allows."""
    joint = "" if namespace.endswith("__") else "__"
    joined = re.sub(r"[^a-zA-Z0-9_-]", "_", f"{namespace}{joint}{name}")
    yield joined[:MAX_NAME]
    for number in count(2):
        suffix = f"_{number}"
        yield joined[: MAX_NAME - len(suffix)] + suffix
