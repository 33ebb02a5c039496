"""Settings under the key `upstreams` of smallfirst.yaml."""

from typing import Annotated, Self

from pydantic import Field, HttpUrl, SecretStr, model_validator

from routers.config_models import Count, Seconds, Strict, Weight
from routers.cost import Price
from routers.plan import Tier

from .capabilities import Capabilities
from .providers.server_kind import Engine
from .transport.hosts import is_private_host


class Limits(Strict):
    """Time limits in seconds, and limits on concurrent calls."""

    connect: Seconds = 5.0
    """Time to establish a connection."""
    first_token: Seconds = 120.0
    """Time until a streamed response begins."""
    gap: Seconds = 60.0
    """Time between two reads of a response."""
    whole: Seconds = 600.0
    """Time until a response that is not streamed begins. The server starts it once the answer is complete."""
    in_flight: Count = 256
    """Calls in flight; further calls wait."""
    queued: Annotated[int, Field(ge=0)] = 256
    """Calls that may wait; further calls fail as `busy`."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Retries of a call that got no connection or a status of 429, 502, 503 or 529, be it inside a 200."""


class UpstreamSettings(Strict):
    """One OpenAI-compatible endpoint with one model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Unique name in metrics, records and errors: letters, digits, `.`, `_` and `-`."""
    tier: Tier
    """`slm` for the small model, `llm` for the large one."""
    url: HttpUrl
    """Base URL, which usually ends in `/v1`."""
    model: Annotated[str, Field(pattern=r"^[!-~]+$")]
    """Name of the model at this endpoint."""
    adapters: tuple[Annotated[str, Field(pattern=r"^[!-~]+$")], ...] = ()
    """LoRA adapters that this server has loaded beside the model (`engine: vllm`). Requests may name each as
    a model."""
    engine: Engine = "openai"
    """Kind of server. It decides how requests are adapted and which capabilities are the default."""
    priority: int = 0
    """Of a tier's upstreams that are up and can serve a request, those with the lowest number share the
    load."""
    weight: Weight = 1.0
    """Share of the calls among upstreams of the same priority."""
    context: Count | None = None
    """Maximum tokens of a request, prompt and answer together. A prompt that certainly exceeds it is not
    sent."""
    capabilities: Capabilities = Capabilities()
    """Capabilities that differ from the defaults of its kind."""
    judges_only: bool = False
    """Whether it only judges requests, where a policy's `guard.model` names it, and answers none."""
    cloud: bool | None = None
    """Whether somebody else operates the machine. By default true, unless the host of `url` is a loopback,
    private or link-local address, `localhost`, or ends in `.local` or `.internal`."""
    probe: Annotated[float, Field(ge=0)] | None = None
    """Seconds between health probes of an idle or failing server, by a GET that costs nothing. 0 means never;
    null means 10, and never for a cloud."""
    key: SecretStr | None = None
    """Sent as `Authorization: Bearer`."""
    headers: dict[str, SecretStr] = {}
    """Headers of every call. They override the header that `key` sets."""
    query: dict[str, SecretStr] = {}
    """Query parameters of every call."""
    chat_path: str = "/chat/completions"
    """Path of chat completions, appended to `url`."""
    completions_path: str = "/completions"
    """Path of completions, appended to `url`."""
    embeddings_path: str = "/embeddings"
    """Path of embeddings, appended to `url`."""
    price: Price | None = None
    """Prices per million tokens. If absent, they come from genai-prices. If unknown there, a call costs what the server
    reports (`usage.cost`); without that, calls count as 0 and are marked so."""
    limits: Limits = Limits()
    """Time limits, and limits on concurrent calls."""

    @model_validator(mode="after")
    def _check_adapters(self) -> Self:
        if self.adapters and self.engine != "vllm":
            raise ValueError(f"adapters need engine: vllm, not {self.engine}")
        if len({self.model, *self.adapters}) <= len(self.adapters):
            raise ValueError("adapters must differ from one another and from model")
        return self

    @property
    def is_cloud(self) -> bool:
        return not is_private_host(self.url.host or "") if self.cloud is None else self.cloud
