"""What the settings say of one OpenAI-compatible endpoint: its model, price, capabilities and URLs."""

from collections.abc import Callable, Mapping

from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements
from gateway.wire.structured_outputs import drop_fields
from gateway.wire.vendor_fields import ANSWER_CHANGING, ANSWER_NEUTRAL, OPENAI
from routers.confidence.calibration import Fingerprint, LogprobSource
from routers.cost import FREE, Price
from routers.plan import Capability

from .capabilities import Capabilities
from .failures import Failure
from .providers.prices import find_price
from .providers.registry import SERVER_KINDS
from .providers.server_kind import Scorer
from .settings import UpstreamSettings
from .transport.address import build_base_url, build_probe, build_urls

DISPENSABLE_FIELDS: Mapping[str, Body] = {"stream_options": {"include_usage": True}}
"""Fields that the gateway adds by itself, with the values that it gives them. Without usage, it is estimated."""

KNOWN_KEYS = {"stream_options": {"include_usage", "include_obfuscation"}}
"""The keys that OpenAI's API has in these fields. A server may refuse any others in them, and the client shall know."""


class Endpoint:
    """Knows which requests an endpoint can serve, and how they are adapted to its kind of server."""

    def __init__(
        self,
        settings: UpstreamSettings,
        scorer: Scorer | None = None,
        fingerprint: Fingerprint | None = None,
    ) -> None:
        self.name = settings.name
        self.tier = settings.tier
        self.model = settings.model
        self.models = (settings.model, *settings.adapters)
        self.judges_only = settings.judges_only
        self.priority = settings.priority
        self.weight = settings.weight
        self.is_cloud = settings.is_cloud
        self.context_length = settings.context
        self._on_change: list[Callable[[], None]] = []
        self._lost: dict[str, str] = {}
        self.capabilities = _resolve_capabilities(settings)
        self.capability_names = self.capabilities.to_set()
        self.max_top_logprobs = self.capabilities.top_logprobs or 0
        self.source = LogprobSource(model=settings.model, engine=settings.engine, fingerprint=fingerprint)
        price = settings.price or find_price(settings.model, str(settings.url))
        self.price: Price = price or FREE
        self.has_price = price is not None
        self.kind = SERVER_KINDS[settings.engine]
        self.scorer = scorer or self.kind.scorer
        strict = self.kind.is_strict(build_base_url(settings))
        self._unknown_fields = ANSWER_CHANGING - OPENAI if strict else self.kind.ignored_fields
        self._dropped_fields = ANSWER_NEUTRAL if strict else frozenset()
        native = "structured_outputs" in self.capability_names
        self.rewritten_fields = (
            self.kind.rewritten_fields
            | self._dropped_fields
            | frozenset(() if native else ("structured_outputs",))
        )
        self._urls = build_urls(settings)
        self.probe = build_probe(settings)

    def can_serve(self, needs: Requirements) -> bool:
        """Return whether it can serve a request with these needs."""
        return (
            (not self.judges_only if needs.model is None else needs.model in self.models)
            and needs.capabilities <= self.capability_names
            and needs.top_logprobs <= self.max_top_logprobs
            and needs.vendor_fields.isdisjoint(self._unknown_fields)
            and (self.context_length is None or needs.tokens <= self.context_length)
            and needs.alternatives <= self.kind.max_alternatives
            and (self.scorer is not None or not needs.surprisal)
        )

    def find_mismatch(self, needs: Requirements) -> Failure | None:
        """Return why it cannot serve these needs, or None: `incapable`, or `context` if the prompt is
        certainly too long."""
        if needs.model is not None and needs.model not in self.models:
            return self._build_failure("incapable", f"serves {', '.join(self.models)}, not {needs.model}")
        if needs.model is None and self.judges_only:
            return self._build_failure("incapable", "judges only, and answers no requests")
        if not needs.capabilities <= self.capability_names:
            missing = sorted(needs.capabilities - self.capability_names)
            named = [f"{name} ({self._lost[name]})" if name in self._lost else name for name in missing]
            return self._build_failure("incapable", f"does not offer {', '.join(named)}")
        if needs.top_logprobs > self.max_top_logprobs:
            what = f"gives {self.max_top_logprobs} alternatives a token, not {needs.top_logprobs}"
            return self._build_failure("incapable", what)
        if unknown := needs.vendor_fields & self._unknown_fields:
            return self._build_failure("incapable", f"does not know {', '.join(sorted(unknown))}")
        if needs.alternatives > (most := self.kind.max_alternatives):
            what = f"follows at most {most:g} alternatives of a schema or grammar at once, not {needs.alternatives}"
            return self._build_failure("incapable", what)
        if needs.surprisal and self.scorer is None:
            what = f"an engine of its kind ({self.source.engine}) tells no log-probabilities of a text"
            return self._build_failure("incapable", what)
        if self.context_length is not None and needs.tokens > self.context_length:
            what = f"the prompt has at least {needs.tokens} tokens, and the context is {self.context_length}"
            return self._build_failure("context", what)
        return None

    def on_change(self, call: Callable[[], None]) -> None:
        """Have `call` called whenever it is learned that the server can do less than was thought."""
        self._on_change.append(call)

    def lose_capability(self, name: Capability, why: str) -> None:
        """Note that the server lacks a capability that its kind has."""
        self._lost[name] = why
        self.capabilities = self.capabilities.model_copy(update={name: False})
        self.capability_names = self.capabilities.to_set()
        for call in self._on_change:
            call()

    def find_refused_field(self, body: Body, failure: Failure) -> str | None:
        """Return a field of the body that the server refuses, and that the gateway can do without; else None.

        If the field is as the gateway adds it, the server gets it no more. Another value may be what was refused.
        """
        for name, own in DISPENSABLE_FIELDS.items():
            sent = body.get(name)
            if isinstance(sent, dict) and sent.keys() <= KNOWN_KEYS[name] and name.encode() in failure.body:
                if sent == own:
                    self._dropped_fields |= {name}
                return name
        return None

    def url(self, endpoint: str) -> str:
        """Return the URL of an endpoint named in `build_urls`."""
        return self._urls[endpoint]

    def adapt_body(self, body: Body, *, continues: bool) -> Body:
        """Return the body adapted to this kind of server. `continues` says that it ends in a partial
        answer."""
        if not self._dropped_fields.isdisjoint(body):
            body = drop_fields(body, *self._dropped_fields)
        if body.get("structured_outputs") is not None and "structured_outputs" not in self.capability_names:
            body = self.kind.adapt_constraint(body)
        return self.kind.adapt_body(body, continues)

    def _build_failure(self, why: str, message: str) -> Failure:
        return Failure(why, self.tier, f"{self.name}: {message}", upstream=self.name)


def _resolve_capabilities(settings: UpstreamSettings) -> Capabilities:
    """Return the capabilities in the settings, with the kind's defaults for the rest.

    `logit_bias` defaults to false for a small model: token ids belong to one tokenizer, and in a request that
    any model may answer they are taken to be the large model's.
    """
    known = SERVER_KINDS[settings.engine].capabilities(settings.model, build_base_url(settings))
    if settings.tier == "slm":
        known = known.model_copy(update={"logit_bias": False})
    return settings.capabilities.with_defaults(known)
