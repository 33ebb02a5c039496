"""The hot routes, plain ASGI endpoints within the FastAPI application: its routing and dependency machinery
would cost a multiple of what they do."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from .errors import ApiError
from .intake import Receive
from .reply import Send, respond_error

Asgi = Callable[[Any, Receive, Send], Awaitable[None]]


class HotRoutes:
    """ASGI middleware: `routes` by exact path, for POST; all else goes on to the application."""

    def __init__(self, app: Asgi, routes: Mapping[str, Asgi]) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        endpoint = self._routes.get(scope["path"]) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
        elif scope["method"] == "POST":
            await endpoint(scope, receive, send)
        else:
            message = f"{scope['path']} takes POST, not {scope['method']}"
            await respond_error(send, ApiError(405, "method_not_allowed", message), [(b"allow", b"POST")])
