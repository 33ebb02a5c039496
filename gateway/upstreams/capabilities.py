"""What a model's server can do: as its kind is known, and as its operator says."""

from typing import Annotated, get_args

from pydantic import BaseModel, ConfigDict, Field

from routers.plan import Capability

CAPABILITIES: tuple[Capability, ...] = get_args(Capability)


class Capabilities(BaseModel):
    """What a server can do; null where that is left to what its kind is known for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logprobs: bool | None = None
    """Gives its tokens' log-probabilities; a cascade needs the small model's."""
    top_logprobs: Annotated[int, Field(ge=0)] | None = None
    """Most alternatives that it gives for a token."""
    scoring: bool | None = None
    """Gives log-probabilities of a text it is given (`echo` on `/completions`)."""
    prediction: bool | None = None
    """Is faster where the answer's likely text is given (`prediction`)."""
    prefill: bool | None = None
    """Goes on from a begun assistant message."""
    tools: bool | None = None
    """Calls tools."""
    json_schema: bool | None = None
    """Answers in JSON that meets a schema."""
    vision: bool | None = None
    """Reads images."""
    audio: bool | None = None
    """Hears or speaks."""
    logit_bias: bool | None = None
    """Takes token ids: `logit_bias`, and vLLM's fields of the kind. A small model is taken not to, as token ids belong
    to a tokenizer, unless it is the only one that may answer."""
    min_p: bool | None = None
    """Takes `min_p`; vLLM does not while it decodes speculatively."""
    choices: bool | None = None
    """Writes several choices (`n`)."""
    completions: bool | None = None
    """Offers `/completions`."""
    embeddings: bool | None = None
    """Offers `/embeddings`."""
    grammar: bool | None = None
    """Keeps to a list of choices, or to a grammar in GBNF (`structured_outputs`)."""
    structured_outputs: bool | None = None
    """Knows all of vLLM's `structured_outputs`. Where not, JSON and its schemas become a `response_format`."""

    def over(self, known: "Capabilities") -> "Capabilities":
        """What is said here, and where nothing is, what is known."""
        return known.model_copy(update={name: value for name, value in self if value is not None})

    def names(self) -> frozenset[Capability]:
        return frozenset(name for name in CAPABILITIES if getattr(self, name))
