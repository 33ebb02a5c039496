"""Strategies -> tables: their fields, and what they and requests need of the servers."""

from collections.abc import Iterator
from typing import Any

from gateway.wire.body_types import Body, Endpoint
from gateway.wire.requirements import capabilities_of
from policies.loading.trained_files import STOCK_CALIBRATOR
from policies.schema.strategies import STRATEGIES
from routers.confidence.calibration import Calibrator
from routers.plan import Capability, Tier
from routers.router import Router
from tools.docs.table import code, table
from tools.docs.tables.model_fields import fields_tables

SCORE = {"limits": {"turns": 8}}
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {
    "direct": {"": {"tier": "slm"}},
    "difficulty": {"": {"gate": SCORE}},
    "cascade": {
        "": {},
        "`release: splice`": {"release": "splice", "commit": 0.8},
        "`judge: {tier: slm}`": {"release": "hold", "judge": {"tier": "slm"}},
        "`judge: {tier: llm}`": {"release": "hold", "judge": {"tier": "llm"}},
    },
    "speculative": {"": {"otherwise": {"kind": "direct", "tier": "llm"}}},
    "hedge": {"": {}, "`release: splice`": {"release": "splice", "commit": 0.8}},
}
"""What makes a difference to what a strategy needs, as its YAML says it."""

MESSAGE = {"role": "user", "content": "Hi"}
ASKED: list[tuple[str, Body, Endpoint]] = [
    ("`tools` or `functions`, not empty", {"tools": [{}]}, "chat"),
    ('a tool of `"type": "custom"`', {"tools": [{"type": "custom"}]}, "chat"),
    ('`response_format: {"type": "json_schema"}`', {"response_format": {"type": "json_schema"}}, "chat"),
    ('`response_format: {"type": "json_object"}`', {"response_format": {"type": "json_object"}}, "chat"),
    (
        "`structured_outputs` with choices, or a grammar in GBNF",
        {"structured_outputs": {"choice": ["a"]}},
        "chat",
    ),
    ("`structured_outputs` with a regular expression", {"structured_outputs": {"regex": "a"}}, "chat"),
    ("`n` over 1", {"n": 2}, "chat"),
    ("`logit_bias`, not empty", {"logit_bias": {"1": 1}}, "chat"),
    ("`min_p`, not 0", {"min_p": 0.1}, "chat"),
    ("`logprobs`", {"logprobs": True}, "chat"),
    ("`prediction`", {"prediction": {"type": "content", "content": "x"}}, "chat"),
    ("an image in a message", {"messages": [MESSAGE | {"content": [{"type": "image_url"}]}]}, "chat"),
    ("sound in a message", {"messages": [MESSAGE | {"content": [{"type": "input_audio"}]}]}, "chat"),
    ('`audio`, or `modalities` with `"audio"`', {"modalities": ["text", "audio"]}, "chat"),
    ("`POST /v1/completions`", {"prompt": "Hi"}, "completions"),
    ("`POST /v1/embeddings`", {"input": "Hi"}, "embeddings"),
]
"""What a request may have, as it is told, and a body that has it."""


def fields_of(kind: str) -> str:
    """A strategy's fields, and those of the mappings in them."""
    return fields_tables(STRATEGIES[kind])


def needs_table() -> str:
    rows = [
        [code(kind), variant, _asked(router, "slm"), _asked(router, "llm")]
        for kind, variant, router in variants()
    ]
    return table(["strategy", "with", "asks of the small model", "asks of the large model"], rows)


def variants() -> Iterator[tuple[str, str, Router]]:
    """Every strategy in each of its variants: its kind, what the variant is told by, and a router."""
    judging = {"accept": 0.6, "calibrator": Calibrator.model_validate_json(STOCK_CALIBRATOR.read_bytes())}
    for kind, strategy in STRATEGIES.items():
        common = judging if "calibrator" in strategy.model_fields else {}
        for variant, fields in VARIANTS[kind].items():
            yield kind, variant, strategy.model_validate(common | fields)


def _asked(router: Router, tier: Tier) -> str:
    return _named(frozenset(router.needs.get(tier, {})))


def requests_table() -> str:
    rows = [
        [what, _named(capabilities_of({"messages": [MESSAGE], **body}, endpoint))]
        for what, body, endpoint in ASKED
    ]
    return table(["a request with", "needs"], rows)


def _named(capabilities: frozenset[Capability]) -> str:
    return ", ".join(map(code, sorted(capabilities))) or "nothing"
