"""Fields that one engine knows -> a table of what becomes of each at every kind of server."""

from collections import defaultdict

from pydantic import HttpUrl

from gateway.upstreams.capabilities import Capabilities
from gateway.upstreams.providers.server_kind import Engine
from gateway.upstreams.settings import UpstreamSettings
from gateway.upstreams.upstream import Upstream
from gateway.wire.body_types import Body
from gateway.wire.requirements import Requirements
from gateway.wire.structured_outputs import structured_output_capabilities
from gateway.wire.vendor_fields import ANSWER_CHANGING, ANSWER_NEUTRAL, REMOVED_FROM_VLLM
from tools.docs.table import code, table

ELSEWHERE = "http://10.0.0.1/v1"
SERVERS: dict[str, tuple[Engine, str]] = {
    "`vllm`": ("vllm", ELSEWHERE),
    "`llamacpp`": ("llamacpp", ELSEWHERE),
    "OpenAI itself": ("openai", "https://api.openai.com/v1"),
    "other `openai`": ("openai", ELSEWHERE),
    "`mistral`": ("mistral", ELSEWHERE),
    "`deepseek`": ("deepseek", ELSEWHERE),
}
CONSTRAINTS: dict[str, Body] = {
    '{"json": …}': {"json": {"type": "object"}},
    '{"json_object": true}': {"json_object": True},
    '{"choice": …}': {"choice": ["a", "b"]},
    '{"grammar": …} in GBNF': {"grammar": 'root ::= "a"'},
    '{"grammar": …} in Lark': {"grammar": 'start: "a"'},
    '{"regex": …}': {"regex": "a"},
    '{"structural_tag": …}': {"structural_tag": "{}"},
}


def _server(engine: Engine, url: str) -> Upstream:
    settings = UpstreamSettings(
        name="u", tier="llm", url=HttpUrl(url), model="m", engine=engine, capabilities=Capabilities()
    )
    return Upstream(settings)


def _fate(server: Upstream, body: Body, needs: Requirements) -> str:
    if not server.can_serve(needs):
        return "not asked"
    sent = server.adapt_body(body, continues=False)
    if sent == body:
        return "passed"
    gained = ", ".join(code(name) for name in sent if name not in body)
    return f"as {gained}" if gained else "left out"


def fields_table() -> str:
    """Fields that fare alike share a row."""
    servers = [_server(*server) for server in SERVERS.values()]
    rows: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in sorted(ANSWER_CHANGING | ANSWER_NEUTRAL):
        needs = Requirements(vendor_fields=frozenset({name}) & ANSWER_CHANGING)
        rows[tuple(_fate(server, {name: 1}, needs) for server in servers)].append(code(name))
    return table(["field", *SERVERS], [[", ".join(names), *fates] for fates, names in rows.items()])


def constraints_table() -> str:
    servers = [_server(*server) for server in SERVERS.values()]
    rows = []
    for told, asked in CONSTRAINTS.items():
        body: Body = {"structured_outputs": asked}
        needs = Requirements(structured_output_capabilities(body))
        rows.append([code(told), *(_fate(server, body, needs) for server in servers)])
    return table(["`structured_outputs`", *SERVERS], rows)


def removed_table() -> str:
    return table(["removed", "send instead"], [[code(name), now] for name, now in REMOVED_FROM_VLLM.items()])
