"""The capabilities of a model's server: the defaults of its kind, and what the settings declare."""

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field

from routers.plan import Capability

CAPABILITIES: tuple[Capability, ...] = get_args(Capability)


class Capabilities(BaseModel):
    """What a server can do. A null field takes the default of the server's kind."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logprobs: bool | None = None
    """Returns log-probabilities of the tokens it generates. A cascade needs them from the small model."""
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    """Maximum number of alternatives it returns for a token."""
    scoring: bool | None = None
    """Returns log-probabilities of a given text (`echo` on `/completions`)."""
    prediction: bool | None = None
    """Answers faster if the request holds the likely text of the answer (`prediction`)."""
    prefill: bool | None = None
    """Continues a partial assistant message at the end of `messages`."""
    tools: bool | None = None
    """Calls tools. A llama.cpp server is asked, the first time that it matters, whether its model's chat template
    shows tools to the model at all."""
    custom_tools: bool | None = None
    """Calls OpenAI's custom tools, whose input is free text."""
    json_schema: bool | None = None
    """Answers in JSON that conforms to a given schema."""
    vision: bool | None = None
    """Reads images."""
    audio: bool | None = None
    """Takes or produces audio."""
    logit_bias: bool | None = None
    """Takes token ids, in `logit_bias` and similar fields of vLLM. Token ids belong to one tokenizer, so the
    default for a small model is no, unless only that model may answer."""
    min_p: bool | None = None
    """Takes `min_p`. vLLM does not take it during speculative decoding."""
    choices: bool | None = None
    """Returns several choices (`n`)."""
    completions: bool | None = None
    """Offers `/completions`."""
    embeddings: bool | None = None
    """Offers `/embeddings`."""
    grammar: bool | None = None
    """Constrains the answer to a list of choices or to a GBNF grammar (`structured_outputs`)."""
    structured_outputs: bool | None = None
    """Supports every form of vLLM's `structured_outputs`. If not, JSON and JSON schemas become a
    `response_format`."""

    def with_defaults(self, defaults: "Capabilities") -> "Capabilities":
        """Return these capabilities, with each null field taken from `defaults`."""
        return defaults.model_copy(update={name: value for name, value in self if value is not None})

    def to_set(self) -> frozenset[Capability]:
        return frozenset(name for name in CAPABILITIES if getattr(self, name))
