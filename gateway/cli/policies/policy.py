"""smallfirst policy: lists, shows, compares and explains policies. Calls no model."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, get_args

import typer

from gateway.api.request_body import check_chat, parse
from gateway.catalog.catalog import catalogue
from gateway.cli.output import ConfigOption, fail, out
from gateway.cli.serving.check import described
from gateway.errors import ApiError
from gateway.exchange.builder import (
    at_home,
    check_let_in,
    needs_of,
    own_field,
    policy_of,
    privacy_of,
    request_of,
)
from gateway.exchange.passages import passages_of
from gateway.settings import Settings, default_path, load_settings
from gateway.upstreams.pool import Pool, pools
from policies.explain.origins import differences, shown
from policies.explain.plan_tree import before, explained, lines
from policies.loading.loader import Loaded, load, load_policies, policy_paths
from policies.loading.yaml_files import ConfigError
from policies.schema.split import AnyPolicy
from routers.plan import Tier
from routers.router import Request
from routers.structure.expected import Expected

app = typer.Typer(
    help="What the policies are, how they came to be, and what they would do.", no_args_is_help=True
)

PolicyArgument = Annotated[str, typer.Argument(help="A policy's name, or a policy file.")]
LONGEST = 60
"""Maximum characters shown of a property of a request."""


@app.command("list")
def list_policies(config: ConfigOption = None) -> None:
    """Show each policy's name, kind and description, and why the configured upstreams can't serve it."""
    settings = _settings(config)
    policies = _policies(settings)
    unavailable = catalogue(policies.values(), pools(described(settings))).unavailable
    names = max(map(len, policies))
    kinds = max(len(policy.kind) for policy in policies.values())
    for name, policy in policies.items():
        description = " ".join(policy.description.split())
        out.print(f"{name:{names}}  {policy.kind:{kinds}}  {description}", markup=False)
        if name in unavailable:
            out.print(f"{'':{names}}  not served: {unavailable[name]}", markup=False)


@app.command()
def show(policy: PolicyArgument, config: ConfigOption = None) -> None:
    """Print a policy whole, as YAML, with what it extends; comments name file and line of each key."""
    for line in shown(_loaded(policy, _settings(config))):
        out.print(line, markup=False)


@app.command()
def diff(policy: PolicyArgument, other: PolicyArgument, config: ConfigOption = None) -> None:
    """Print each path at which two policies differ, and both values."""
    settings = _settings(config)
    for line in differences(_loaded(policy, settings), _loaded(other, settings)):
        out.print(line, markup=False)


@app.command()
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
    settings = _settings(config)
    upstreams: Mapping[Tier, Pool] = pools(described(settings))
    policies = catalogue(_policies(settings).values(), upstreams)
    try:
        raw = _read(request)
        body = parse(raw)
        own = own_field(body)
        if policy is not None:
            body, own = {"model": policy, **body}, own.model_copy(update={"policy": policy})
        check_chat(body)
        found = policy_of(body, own, policies)
        passages = passages_of(own.context, body, "chat")
        body = body if passages is None else passages.shown()
        if (privacy := privacy_of(found)) is not None:
            privacy.open(body)
            check_let_in(found, privacy)
    except ApiError as error:
        fail(error.message)
    private = own.private or found.private is True or (privacy is not None and privacy.stays)
    if private:
        upstreams = at_home(upstreams)
    needs = needs_of(body, "chat", raw, found, policies)
    asked = request_of(body, "chat", found, Expected.of(body), needs, upstreams)
    asked = asked._replace(passages=len(passages.given) if passages else 0)
    overrides = "".join(f", {name} overridden: {value}" for name, value in (own.override or {}).items())
    out.print(f"policy   {found.name} ({found.kind}{overrides})", markup=False)
    out.print(f"request  {_properties(asked)}", markup=False)
    if privacy is not None:
        out.print(f"private  {found.private}; here {privacy.where or 'is nothing of the kind'}", markup=False)
    for tier in get_args(Tier):
        pool = upstreams.get(tier)
        told = (
            ", ".join(f"{one.model} ({one.name})" for one in pool.upstreams)
            if pool
            else "none that may see what is private"
            if private
            else "none is configured"
        )
        out.print(f"{tier}      {told}", markup=False)
    for line in before(found, asked):
        out.print(line, markup=False)
    for line in lines(explained(found.router.fitted(asked), asked)):
        out.print(line, markup=False)


def _properties(request: Request) -> str:
    """Return what a plan may read of the request, without tiers and values of a plain request."""
    plain = Request(stream=not request.stream, judgeable=not request.judgeable)._asdict()
    known = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in request._asdict().items()
        if name != "tiers" and value != plain[name]
    }
    return ", ".join(f"{name}: {json.dumps(value, default=dict)[:LONGEST]}" for name, value in known.items())


def _read(request: str) -> bytes:
    if request == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(request).read_bytes()
    except OSError as error:
        fail(f"{request}: cannot be read: {error.strerror}")


def _settings(config: Path | None) -> Settings:
    try:
        return load_settings(config or default_path())
    except ConfigError as error:
        fail(error)


def _policies(settings: Settings) -> dict[str, AnyPolicy]:
    try:
        return load_policies(settings.policies.folder)
    except ConfigError as error:
        fail(error)


def _loaded(name: str, settings: Settings) -> Loaded:
    """Load one policy only, so that mistakes in others do not matter. Fails if it cannot be loaded."""
    try:
        known = policy_paths(settings.policies.folder)
        path = Path(name) if name.endswith(".yaml") else known.get(name)
        if path is None:
            fail(f"there is no policy {name!r}; there are: {', '.join(known)}, or a policy's .yaml file")
        return load(path)
    except ConfigError as error:
        fail(error)
