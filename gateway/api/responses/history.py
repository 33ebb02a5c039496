"""The state of the Responses API: recalls what a request refers to by id, and keeps responses for later turns."""

from typing import Any

import orjson

from gateway.errors import ApiError, invalid
from gateway.exchange.exchange import Exchange
from gateway.exchange.privacy_screen import holds_private_text
from gateway.state.responses import ResponseStore
from gateway.wire.body_types import Body

from .fields import optional, required
from .messages import is_reference, list_items
from .output import response_id_of

WHY_GONE = (
    "It was made with `store: false` or from private text, was not used for long, had to make room, "
    "or was made by another process of the gateway"
)


class History:
    """The kept responses and their inputs. One line of each is the response, the next its input."""

    def __init__(self, store: ResponseStore) -> None:
        self._store = store

    async def resolve_references(self, request: Body) -> Body:
        """Return the /v1/responses body with the items that its input refers to. Raises ApiError if one is gone."""
        items = request.get("input")
        if not isinstance(items, list) or not any(map(is_reference, items)):
            return request
        outputs: dict[str, list[Body]] = {}
        resolved = [
            await self._find_item(item, f"input[{index}]", outputs) if is_reference(item) else item
            for index, item in enumerate(items)
        ]
        _check_repetition(items)
        return request | {"input": resolved}

    async def read_conversation(self, request: Body) -> list[Body]:
        """Return the items of the turns before this one, the oldest first. Raises ApiError if one is gone."""
        turns: list[list[Body]] = []
        previous_id = optional(request, "previous_response_id", str)
        while previous_id:
            kept = await self._store.get(previous_id)
            if kept is None:
                raise _explain_missing_turn(previous_id)
            response, given = map(orjson.loads, kept.split(b"\n"))
            turns.append([*list_items(given), *response["output"]])
            previous_id = response["previous_response_id"]
        return [item for turn in reversed(turns) for item in turn]

    def can_keep(self, request: Body, exchange: Exchange) -> bool:
        """Return whether the exchange's response may be kept: unless the client or its private text forbids it."""
        return (
            self._store.is_enabled and request.get("store") is not False and not holds_private_text(exchange)
        )

    async def keep(self, request: Body, response: Body) -> None:
        """Keep the finished `response` to a request whose references are resolved, if it says `store`."""
        if response["store"]:
            lines = orjson.dumps(response), orjson.dumps(request["input"])
            await self._store.add(response["id"], b"\n".join(lines))

    async def read(self, response_id: str) -> bytes:
        """Return a kept response as JSON. Raises ApiError if it is gone."""
        kept = await self._store.get(response_id)
        if kept is None:
            raise _explain_response_absence(response_id)
        return kept.partition(b"\n")[0]

    async def delete(self, response_id: str) -> None:
        """Drop a kept response. Raises ApiError if it is gone."""
        if not await self._store.delete(response_id):
            raise _explain_response_absence(response_id)

    async def _find_item(self, reference: Body, where: str, outputs: dict[str, list[Body]]) -> Body:
        """Return the item that is meant. `outputs` holds what was read for this request, by the response's id."""
        item_id = required(reference, "id", str, where)
        response_id = response_id_of(item_id)
        if response_id not in outputs:
            outputs[response_id] = await self._read_output(response_id)
        for item in outputs[response_id]:
            if item["id"] == item_id:
                return item
        raise _explain_missing_item(item_id, f"{where}.id")

    async def _read_output(self, response_id: str) -> list[Body]:
        kept = await self._store.get(response_id)
        output: Any = [] if kept is None else orjson.loads(kept.partition(b"\n")[0])["output"]
        return list(output)


def _check_repetition(items: list[Any]) -> None:
    """Raise ApiError if an item is referred to twice: a short input could otherwise become one of any size."""
    seen = set()
    for index, item in enumerate(items):
        if is_reference(item):
            if item["id"] in seen:
                where = f"input[{index}].id"
                raise invalid(f"{where}: the item {item['id']!r} is in the input already", where)
            seen.add(item["id"])


def _explain_response_absence(response_id: str) -> ApiError:
    figures = "GET /v1/exchanges/{id}, by the id without `resp_`, has the figures of the latest exchanges"
    message = f"the response {response_id!r} is not kept here. {WHY_GONE}. {figures}."
    return ApiError(404, "response_not_found", message, param="response_id")


def _explain_missing_turn(response_id: str) -> ApiError:
    where = "previous_response_id"
    message = f"{where}: the response {response_id!r} is not kept here. {WHY_GONE}. "
    message += "Send the whole conversation as input."
    return ApiError(404, "previous_response_not_found", message, param=where)


def _explain_missing_item(item_id: str, where: str) -> ApiError:
    message = f"{where}: the item {item_id!r} is not kept here. {WHY_GONE}. "
    message += "Send the item itself, as clients do that are set to `store: false`."
    return ApiError(404, "item_not_found", message, param=where)
