"""smallfirst policy explain: prints what would be done with a request. Calls no model."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args

import typer

from gateway.api.request_body import parse_body
from gateway.catalog.catalog import build_catalog
from gateway.cli.output import ConfigOption, fail, out
from gateway.errors import ApiError
from gateway.exchange.builder import build_request, find_requirements, without_clouds
from gateway.exchange.passages import read_passages
from gateway.exchange.policy_resolution import resolve_policy
from gateway.exchange.privacy_screen import build_privacy_screen, check_blocked
from gateway.exchange.smallfirst_field import read_smallfirst_field
from gateway.upstreams.pool import Pool, build_pools
from gateway.wire.validation import check_chat
from policies.explain.plan_tree import build_tree, describe_preparation, to_lines
from routers.plan import Tier
from routers.router import Request
from routers.structure.answer_form import AnswerForm

from .loading import build_upstreams, load_policies_or_fail, load_settings_or_fail
from .notices import explain_uncalibrated

MAX_PROPERTY_LENGTH = 60
"""Maximum characters shown of a property of a request."""


def explain(
    request: Annotated[
        str, typer.Argument(help="A chat request's body, as a JSON file; - for standard input.")
    ],
    policy: Annotated[
        str | None, typer.Option(help="Explain this policy instead of the one that the request names.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Print what would be done with a request, by what may come of each call; makes none."""
    settings = load_settings_or_fail(config)
    upstreams: Mapping[Tier, Pool] = build_pools(build_upstreams(settings))
    loaded = load_policies_or_fail(settings, upstreams).values()
    policies = build_catalog(loaded, upstreams, expose_models=settings.expose_models)
    try:
        raw = _read_request(request)
        body = parse_body(raw)
        own = read_smallfirst_field(body)
        if policy is not None:
            body, own = {"model": policy, **body}, own.model_copy(update={"policy": policy})
        check_chat(body)
        chosen = resolve_policy(body, own, policies)
        passages = read_passages(own.context, body, "chat")
        body = body if passages is None else passages.body_with()
        if (privacy := build_privacy_screen(chosen)) is not None:
            privacy.scan_now(body)
            check_blocked(chosen, privacy)
    except ApiError as error:
        fail(error.message)
    private = own.private or chosen.private is True or (privacy is not None and privacy.must_stay_local)
    if private:
        upstreams = without_clouds(upstreams)
    needs = find_requirements(body, "chat", raw, chosen, policies)
    plan_request = build_request(body, "chat", chosen, AnswerForm.from_body(body), needs, upstreams)
    plan_request = plan_request._replace(passages=len(passages.retrieved) if passages else 0)
    overrides = "".join(f", {name} overridden: {value}" for name, value in (own.override or {}).items())
    out.print(f"policy   {chosen.name} ({chosen.kind}{overrides})", markup=False)
    if chosen.is_uncalibrated(plan_request):
        out.print(f"uncalibrated: {explain_uncalibrated(upstreams, settings.local)}", markup=False)
    out.print(f"request  {_format_properties(plan_request)}", markup=False)
    if privacy is not None:
        out.print(
            f"private  {chosen.private}; here {privacy.description or 'is nothing of the kind'}", markup=False
        )
    for tier in get_args(Tier):
        pool = upstreams.get(tier)
        models = (
            ", ".join(f"{upstream.model} ({upstream.name})" for upstream in pool.upstreams)
            if pool
            else "none that may see what is private"
            if private
            else "none is configured"
        )
        out.print(f"{tier}      {models}", markup=False)
    for line in describe_preparation(chosen, plan_request):
        out.print(line, markup=False)
    for line in to_lines(build_tree(chosen.router.adapt_to(plan_request), plan_request)):
        out.print(line, markup=False)


def _format_properties(request: Request) -> str:
    """Return what a plan may read of the request, without tiers and values of a plain request."""
    plain = Request(stream=not request.stream, judgeable=not request.judgeable)._asdict()
    known = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in request._asdict().items()
        if name != "tiers" and value != plain[name]
    }
    return ", ".join(
        f"{name}: {json.dumps(value, default=dict)[:MAX_PROPERTY_LENGTH]}" for name, value in known.items()
    )


def _read_request(request: str) -> bytes:
    if request == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(request).read_bytes()
    except OSError as error:
        fail(f"{request}: cannot be read: {error.strerror}")
