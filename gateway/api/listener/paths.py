"""Other spellings of the API's paths: doubled and trailing slashes, a base URL without `/v1`, and Azure's paths."""

from collections.abc import Iterable
from typing import NamedTuple

from gateway.api.request_body import Scope

DEPLOYMENTS = "/openai/deployments/"


class ResolvedPath(NamedTuple):
    """The path that the gateway serves, and the model that Azure's path names (a deployment)."""

    path: str
    model: str | None = None


class ApiPaths:
    """Resolves paths to those of the API. `served` are its paths, `/v1/models` and so on."""

    def __init__(self, served: Iterable[str]) -> None:
        self._names = frozenset(path.split("/")[2] for path in served if path.startswith("/v1/"))
        """The first part of each path after `/v1`."""

    def normalise(self, scope: Scope) -> Scope:
        """Return the request's scope with the path that the gateway serves. A HEAD is served as a GET."""
        path, model = self.resolve(scope["path"])
        method = "GET" if scope["method"] == "HEAD" else scope["method"]  # the server leaves out the body
        azure = {} if model is None else {"azure_deployment": model}
        return {**scope, "path": path, "raw_path": path.encode(), "method": method, **azure}

    def resolve(self, path: str) -> ResolvedPath:
        """Return the path as the gateway serves it. A path of no known form is returned without odd slashes."""
        plain = "/" + "/".join(part for part in path.split("/") if part)
        if plain.startswith(DEPLOYMENTS):
            return self._resolve_deployment(plain)
        rest = plain.removeprefix("/openai")
        while rest.startswith("/v1/"):
            rest = rest.removeprefix("/v1")
        return ResolvedPath(f"/v1{rest}" if self._is_api(rest) else plain)

    def _resolve_deployment(self, path: str) -> ResolvedPath:
        """Resolve `/openai/deployments/{model}/chat/completions`. The model's name may have slashes."""
        parts = path.removeprefix(DEPLOYMENTS).split("/")
        for at in range(1, len(parts)):
            rest = "/" + "/".join(parts[at:])
            if self._is_api(rest):
                return ResolvedPath(f"/v1{rest}", "/".join(parts[:at]))
        return ResolvedPath(path)

    def _is_api(self, rest: str) -> bool:
        return rest.split("/")[1] in self._names
