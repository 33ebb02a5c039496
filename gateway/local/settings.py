"""The key `local` of smallfirst.yaml: an SLM run here, and by which engine."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    model_validator,
)

from routers.cost import Price
from routers.strict import Count, Strict, Weight

from .model_catalog import CATALOG

LocalKind = Literal["llamacpp", "vllm"]


class Speculative(BaseModel):
    """vLLM's own speculative decoding; methods' further arguments are passed as they are."""

    model_config = ConfigDict(extra="allow", frozen=True)

    method: str
    """`ngram`, `draft_model`, `suffix`, or another that vLLM knows."""
    num_speculative_tokens: Count | None = None
    """Tokens drafted at a time; `ngram` and `draft_model` need it."""
    model: str | None = None
    """The model that drafts, where the method has one: of `draft_model` one with the same vocabulary."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.method in ("ngram", "draft_model") and self.num_speculative_tokens is None:
            raise ValueError(f"{self.method} needs num_speculative_tokens")
        if self.method == "draft_model" and self.model is None:
            raise ValueError("draft_model needs a model that drafts")
        return self


OF_ONE_ENGINE: dict[str, LocalKind] = {
    "threads": "llamacpp",
    "embeddings": "llamacpp",
    "python": "vllm",
    "arguments": "vllm",
    "environment": "vllm",
    "speculative": "vllm",
    "adapters": "vllm",
}
"""The keys of `local` that only one engine knows."""


class LocalEngine(Strict):
    """An SLM run here, as a supervised child process."""

    engine: LocalKind = "llamacpp"
    """The kind of engine; vLLM lives in a Python environment of its own."""
    model: str = "smollm2-135m-instruct"
    """llama.cpp: a name `smallfirst models list` shows, or a path to a GGUF file. vLLM: a name at Hugging Face, or a
    folder with a `config.json`."""
    context: Count = 2048
    """Tokens of one request, prompt and answer."""
    slots: Count | None = None
    """Requests served at a time; by default 4 by llama.cpp and 64 by vLLM."""
    threads: Count | None = None
    """llama.cpp: compute threads; by default half of the cores."""
    queued: Annotated[int, Field(ge=0)] = 64
    """Requests that may wait for a slot; further ones are told to come back."""
    embeddings: bool = False
    """llama.cpp: whether it offers embeddings too. It gives no hidden states then, and to score a text takes longer."""
    python: Path | None = None
    """vLLM: the Python of the environment that has it; by default `SMALLFIRST_VLLM`, else the gateway's own."""
    arguments: dict[str, Any] = {}
    """vLLM: its further options as its `--help` names them, without the dashes in front: `{dtype: float32,
    enforce-eager: true}`."""
    environment: dict[str, Annotated[str, Field(coerce_numbers_to_str=True)]] = {}
    """vLLM: environment variables, over those of the gateway."""
    speculative: Speculative | None = None
    """vLLM: speculative decoding inside it."""
    adapters: dict[Annotated[str, Field(pattern=r"^[!-~]+$")], str] = {}
    """vLLM: LoRA adapters by the model names that requests use, each a folder or a name at Hugging Face."""
    priority: int = 0
    """As of an upstream."""
    weight: Weight = 1.0
    """Likewise."""
    price: Price = Price()
    """What its calls are counted as."""

    @property
    def at_once(self) -> int:
        """Requests served at a time."""
        return self.slots or {"llamacpp": 4, "vllm": 64}[self.engine]

    @property
    def starts_soon(self) -> bool:
        """Whether it is ready within seconds, and so waited for; vLLM takes minutes."""
        return self.engine == "llamacpp"

    @model_validator(mode="after")
    def _of_one_engine(self) -> Self:
        for key in sorted(self.model_fields_set & OF_ONE_ENGINE.keys()):
            if OF_ONE_ENGINE[key] != self.engine:
                raise ValueError(f"{key} is a key of {OF_ONE_ENGINE[key]}, and the engine is {self.engine}")
        if self.model in self.adapters:
            raise ValueError(f"adapters.{self.model}: is the model's own name")
        if self.engine == "vllm" and "model" not in self.model_fields_set:
            raise ValueError("vllm needs a model: a name at Hugging Face, or a folder with a config.json")
        return self


def chosen(model: str, local: LocalEngine | None) -> LocalEngine:
    """The local engine for a model: llama.cpp for what is in the catalog and for GGUF files, else vLLM. What the
    settings say of that engine stays."""
    engine: LocalKind = "llamacpp" if model in CATALOG or model.endswith(".gguf") else "vllm"
    if local is not None and local.engine == engine:
        return local.model_copy(update={"model": model})
    return LocalEngine(engine=engine, model=model)


LOCAL = "local"
"""The built-in engine's name among upstreams."""
