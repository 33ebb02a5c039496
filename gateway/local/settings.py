"""Settings under the key `local` of smallfirst.yaml."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from routers.config_models import Count, Seconds, Strict, Weight
from routers.cost import Price

from .llamacpp.arguments import parse_arguments
from .llamacpp.speculation import SWITCHING_OPTIONS, has_speculation, to_options
from .model_names import MODEL_NAME
from .models.card import LocalEngineKind
from .weights.reference import parse_reference

ParserName = Annotated[str, Field(pattern=r"^[\w.-]+$")]


class Speculative(BaseModel):
    """Speculative decoding inside the engine. Further arguments of a method are passed on to vLLM unchanged."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str
    """`ngram` or `draft_model`; vLLM has `suffix` and others too."""
    num_speculative_tokens: Count | None = None
    """Tokens per draft block. Required by `ngram` and `draft_model`."""
    model: str | None = None
    """The draft model, if the method uses one. `draft_model` needs one with the same vocabulary. For llama.cpp it is
    a GGUF file, too."""

    @model_validator(mode="after")
    def _check_method_arguments(self) -> Self:
        if self.method in ("ngram", "draft_model") and self.num_speculative_tokens is None:
            raise ValueError(f"{self.method} needs num_speculative_tokens")
        if self.method == "draft_model" and self.model is None:
            raise ValueError("draft_model needs a model that drafts")
        return self


ENGINE_OF_KEY: dict[str, LocalEngineKind] = {
    "threads": "llamacpp",
    "embeddings": "llamacpp",
    "python": "vllm",
    "environment": "vllm",
    "adapters": "vllm",
    "tool_parser": "vllm",
    "reasoning_parser": "vllm",
}
"""The keys of `local` that only one engine supports."""


class LocalEngine(Strict):
    """An SLM that runs here as a supervised child process."""

    engine: LocalEngineKind = "llamacpp"
    """Kind of engine. If the key is absent, the model decides: llama.cpp for GGUF, else vLLM, which may be in a Python
    environment of its own."""
    model: str = "smollm2-135m-instruct"
    """The reference of a model: [every form](local-models.md#getting-a-model)."""
    name: Annotated[str, Field(pattern=MODEL_NAME, max_length=128)] | None = None
    """The model's name in metrics, records, calibrators and requests. The default follows from
    [the reference](local-models.md#getting-a-model)."""
    context: Count | None = None
    """Maximum tokens of a request, prompt and answer together. The default depends on
    [the model and the memory](local-models.md#memory-and-context)."""
    slots: Count | None = None
    """Requests served at the same time. The default is 2 to 4 for llama.cpp, by cores and memory, and 64 for vLLM."""
    threads: Count | None = None
    """llama.cpp: compute threads. The default is half of the cores."""
    queued: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait for a slot. Further requests are refused as `busy`, to be retried later."""
    hung_after: Seconds = 60.0
    """Seconds after which an engine that shows no sign of life is restarted: it writes no token for the gateway, and
    its counters of tokens stand still. It counts as down after 10. Give it more time if it needs that for 512 tokens
    of a prompt."""
    embeddings: bool = False
    """llama.cpp: whether it offers embeddings. It then returns no hidden states, so scoring a text takes
    longer."""
    python: Path | None = None
    """vLLM: the Python of the environment that has it. The default is `SMALLFIRST_VLLM`, else the gateway's
    own Python."""
    arguments: dict[str, Any] = {}
    """The engine's own options, by their names in the `--help` of `llama-server` or `vllm serve`, without the leading
    dashes: `{n-gpu-layers: 99, flash-attn: on}` or `{dtype: float32, enforce-eager: true}`."""
    environment: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = {}
    """vLLM: environment variables. They override those of the gateway."""
    speculative: Speculative | None = None
    """Speculative decoding inside the engine."""
    adapters: dict[Annotated[str, Field(pattern=r"^[!-~]+$")], str] = {}
    """vLLM: LoRA adapters by the model names that requests use, if `expose_models` is on. Each is a folder or a name on
    Hugging Face."""
    tool_parser: ParserName | None = "auto"
    """vLLM: its parser of [tool calls](local-models.md#tools), by vLLM's name. `auto` chooses it by the model's family.
    Without a parser the model gets no requests with tools; null turns tools off."""
    reasoning_parser: ParserName | None = None
    """vLLM: its parser of reasoning, by vLLM's name. Without one, the gateway itself separates reasoning in
    `<think>` tags."""
    priority: int = 0
    """As `upstreams[].priority`."""
    weight: Weight = 1.0
    """As `upstreams[].weight`."""
    price: Price = Price()
    """Price of its calls."""

    @property
    def chosen_engine(self) -> LocalEngineKind | None:
        """The engine that the user has named, or None if the model decides."""
        return self.engine if "engine" in self.model_fields_set else None

    def run_by(self, engine: LocalEngineKind) -> Self:
        """Return the same settings for an engine that only the weights could tell."""
        return self if engine == self.engine else self.model_copy(update={"engine": engine})

    @property
    def max_in_flight(self) -> int:
        """Number of requests served at the same time."""
        return self.slots or {"llamacpp": 4, "vllm": 64}[self.engine]

    @property
    def model_name(self) -> str:
        """The model's name in metrics, records, calibrators and requests."""
        return self.name or parse_reference(self.model, self.chosen_engine).model_name

    @property
    def starts_soon(self) -> bool:
        """Whether it is ready within seconds, so that the gateway waits for it. vLLM takes minutes."""
        return self.engine == "llamacpp"

    @property
    def options(self) -> dict[str, Any]:
        """llama.cpp's options by name, of `arguments` and `speculative` together. Raises ValueError."""
        values = parse_arguments(self.arguments)
        if self.speculative is None:
            return values
        options = to_options(self.speculative.model_dump())
        for name in values:
            if name in options or name in SWITCHING_OPTIONS:
                raise ValueError(f"arguments.{name}: speculative is there too; set one of them")
        return values | options

    @property
    def speculates(self) -> bool:
        """Whether the engine itself drafts and verifies."""
        if self.engine == "vllm":
            return self.speculative is not None
        return has_speculation(self.options)

    @model_validator(mode="after")
    def _choose_engine(self) -> Self:
        if "model" in self.model_fields_set:
            reference = parse_reference(self.model, self.chosen_engine)
            if self.chosen_engine is None:
                self.__dict__["engine"] = reference.engine  # and not among the keys that are set
        return self

    @model_validator(mode="after")
    def _check_engine_keys(self) -> Self:
        for key in sorted(self.model_fields_set & ENGINE_OF_KEY.keys()):
            if ENGINE_OF_KEY[key] != self.engine:
                raise ValueError(f"{key} is a key of {ENGINE_OF_KEY[key]}, and the engine is {self.engine}")
        if self.model_name in self.adapters:
            raise ValueError(f"adapters.{self.model_name}: is the model's own name")
        if self.engine == "vllm" and "model" not in self.model_fields_set:
            raise ValueError("vllm needs a model: a name at Hugging Face, or a folder with a config.json")
        return self

    @model_validator(mode="after")
    def _check_options(self) -> Self:
        if self.engine == "llamacpp":
            self.options  # noqa: B018  raises if llama.cpp would refuse them
        return self


def select_local_engine(model: str, local: LocalEngine | None) -> LocalEngine:
    """Return the local engine for the reference of a model. The settings are kept if they are for the same engine,
    except those that belong to one model. Raises ConfigError."""
    engine = parse_reference(model).engine
    if local is None or local.engine != engine:
        return LocalEngine(model=model)
    dropped = {"engine"} if model == local.model else {"engine", "name", "tool_parser", "reasoning_parser"}
    kept = {key: getattr(local, key) for key in local.model_fields_set - dropped}
    return LocalEngine(**kept | {"model": model})


LOCAL_UPSTREAM_NAME = "local"
"""The local engine's name among the upstreams."""
