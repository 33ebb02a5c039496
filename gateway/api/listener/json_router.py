"""A FastAPI router for endpoints whose answers are JSON as it is."""

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter


class JsonRouter(APIRouter):
    """Writes what an endpoint returns without a model of it, which takes most of the time of building a route."""

    def add_api_route(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().add_api_route(path, endpoint, **options | {"response_model": None})
