"""GET and DELETE /v1/responses/{id}: the responses that are kept for later turns."""

from typing import Any

from fastapi import Response

from gateway.api.listener.json_router import JsonRouter
from gateway.errors import unsupported

from .history import History


def response_routes(history: History) -> JsonRouter:
    router = JsonRouter()

    @router.get("/v1/responses/{response_id}", summary="A kept response")
    async def read(response_id: str, stream: bool = False) -> Response:
        if stream:
            raise unsupported("stream", "a kept response is sent whole")
        return Response(await history.read(response_id), media_type="application/json")

    @router.delete("/v1/responses/{response_id}", summary="Drop it")
    async def delete(response_id: str) -> dict[str, Any]:
        await history.delete(response_id)
        return {"id": response_id, "object": "response", "deleted": True}

    return router
