"""The key `upstreams` of smallfirst.yaml: one OpenAI-compatible endpoint each, and its limits."""

from typing import Annotated, Self

from pydantic import Field, HttpUrl, SecretStr, model_validator

from routers.cost import Price
from routers.plan import Tier
from routers.strict import Count, Seconds, Strict, Weight

from .capabilities import Capabilities
from .providers.kind import Engine
from .transport.hosts import is_ours


class Limits(Strict):
    """Time limits in seconds, and how many calls an upstream gets at once."""

    connect: Seconds = 5.0
    """Until a connection stands."""
    first_token: Seconds = 120.0
    """Until a stream's response begins."""
    gap: Seconds = 60.0
    """Between two reads of a response."""
    whole: Seconds = 600.0
    """Until a plain response begins, which is when it is written."""
    in_flight: Count = 256
    """Calls at a time; further ones wait."""
    queued: Annotated[int, Field(ge=0)] = 256
    """Calls that may wait; further ones are refused as `busy`."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """Repetitions of a call that got no connection, or was answered 429, 502, 503 or 529."""


class UpstreamSettings(Strict):
    """One OpenAI-compatible endpoint with one model."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Its name in metrics, records and errors: letters, digits, `.`, `_` and `-`; no two upstreams share one."""
    tier: Tier
    """`slm` for the small model, `llm` for the large one."""
    url: HttpUrl
    """Base URL, mostly ending in `/v1`."""
    model: str
    """The model's name at this endpoint."""
    adapters: tuple[Annotated[str, Field(pattern=r"^[!-~]+$")], ...] = ()
    """LoRA adapters that this server has loaded beside the model (`engine: vllm`): each a model that requests may
    name."""
    engine: Engine = "openai"
    """The kind of server, for its quirks and for what it can do."""
    priority: int = 0
    """Of a tier's upstreams that are up and fit a request, those of the lowest number share it."""
    weight: Weight = 1.0
    """Its share among upstreams of one priority."""
    context: Count | None = None
    """Tokens of one request, prompt and answer; a prompt that is longer for certain is not sent."""
    capabilities: Capabilities = Capabilities()
    """What it can do, where that is other than of its kind."""
    judges_only: bool = False
    """Whether it answers no requests, but judges those that a policy's `guard.model` has it judge."""
    cloud: bool | None = None
    """Whether it is another's machine; by default it is, unless the host of `url` is a loopback, private or
    link-local address, `localhost`, or ends in `.local` or `.internal`."""
    probe: Annotated[float, Field(ge=0)] | None = None
    """Seconds between looks at whether an idle or failing server is there, by a GET that costs nothing; 0: never;
    null: 10, and never for a cloud."""
    key: SecretStr | None = None
    """Sent as `Authorization: Bearer`."""
    headers: dict[str, SecretStr] = {}
    """Sent with every call; they win over `key`'s."""
    query: dict[str, SecretStr] = {}
    """Query parameters of every call."""
    chat_path: str = "/chat/completions"
    """Put after `url`, as are the next two."""
    completions_path: str = "/completions"
    """For `/v1/completions`."""
    embeddings_path: str = "/embeddings"
    """For `/v1/embeddings`."""
    price: Price | None = None
    """Where absent, genai-prices is asked; where that knows nothing, calls count as 0 and say so."""
    limits: Limits = Limits()
    """Time limits and admission."""

    @model_validator(mode="after")
    def _adapters_are_models(self) -> Self:
        if self.adapters and self.engine != "vllm":
            raise ValueError(f"adapters need engine: vllm, not {self.engine}")
        if len({self.model, *self.adapters}) <= len(self.adapters):
            raise ValueError("adapters must differ from one another and from model")
        return self

    @property
    def is_cloud(self) -> bool:
        return not is_ours(self.url.host or "") if self.cloud is None else self.cloud
