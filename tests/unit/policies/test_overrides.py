"""What a request overrides of a policy: only what the policy allows, checked as the policy's own values are."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.router_builders import calibrator

from policies.loading.loader import load_policy
from policies.loading.overrides import OverrideError, OverrideNotAllowed, apply_override
from policies.loading.yaml_files import ConfigError
from policies.schema.policy import Policy
from routers.strategies.cascade import Cascade
from routers.strategies.direct import Direct

ROUTER = Cascade(accept=0.5, commit=0.9, give_up=0.1, calibrator=calibrator())
FIELDS = "accept, release, commit, give_up, gate, judge"
"""Those of a cascade that a policy may let requests override."""


def policy(*overrides: str, router: Cascade | Direct = ROUTER) -> Policy:
    return Policy(name="mine", description="For tests.", router=router, overrides=overrides)


OPEN = policy("accept", "commit", "give_up")


def test_an_override_replaces_what_it_names_and_nothing_else() -> None:
    found = apply_override(OPEN, {"accept": 0.8, "give_up": None})
    assert found.router == ROUTER.model_copy(update={"accept": 0.8, "give_up": None})
    assert (found.name, found.overrides) == (OPEN.name, OPEN.overrides)
    assert OPEN.router == ROUTER


def test_an_override_has_a_digest_of_its_own_unless_it_changes_nothing() -> None:
    assert apply_override(OPEN, {"accept": 0.8}).digest != OPEN.digest
    assert apply_override(OPEN, {"accept": 0.5}).digest == OPEN.digest
    assert apply_override(OPEN, {}) is OPEN


def test_the_same_override_is_the_same_policy() -> None:
    found = apply_override(OPEN, {"accept": 0.8, "commit": 0.95})
    again = policy("accept", "commit", "give_up")  # as after a reload that changed others
    assert apply_override(again, {"commit": 0.95, "accept": 0.8}) is found
    assert apply_override(again.replace(length_ratio=2.0), {"commit": 0.95, "accept": 0.8}) is not found


@pytest.mark.parametrize(
    ("allowed", "override", "field"),
    [
        ((), {"accept": 0.8}, "accept"),
        (("accept", "commit"), {"accept": 0.8, "give_up": 0.2}, "give_up"),
        (("accept",), {"acept": 1}, "acept"),
        (("accept",), {"calibrator": "/etc/passwd"}, "calibrator"),
        (("accept",), {"kind": "direct"}, "kind"),
    ],
)
def test_what_is_not_allowed_is_told_with_what_is(
    allowed: tuple[str, ...], override: dict[str, Any], field: str
) -> None:
    with pytest.raises(OverrideNotAllowed) as error:
        apply_override(policy(*allowed), override)
    assert error.value.at == f"override.{field}"
    listed = ", ".join(allowed) or "nothing"
    told = f"override.{field}: is not to be overridden; policy mine lets a request override {listed}"
    assert str(error.value) == told


@pytest.mark.parametrize(
    ("override", "at", "told"),
    [
        ({"accept": 2}, "override.accept", "Input should be less than or equal to 1"),
        ({"accept": "0.8"}, "override.accept", "Input should be a valid number"),
        ({"accept": True}, "override.accept", "Input should be a valid number"),
        ({"accept": None}, "override.accept", "Input should be a valid number"),
        ({"accept": {"a": [1]}}, "override.accept", "Input should be a valid number"),
        ({"accept": 0.95}, "override", "commit must be at least accept: a beginning says less than a finished draft"),
    ],
)  # fmt: skip
def test_what_the_router_refuses_is_told_by_its_path(override: dict[str, Any], at: str, told: str) -> None:
    with pytest.raises(OverrideError) as error:
        apply_override(OPEN, override)
    assert error.value.at == at
    assert not isinstance(error.value, OverrideNotAllowed)
    assert str(error.value) == f"{at}: {told}; policy mine lets a request override accept, commit, give_up"


def test_what_is_nested_without_end_is_refused() -> None:
    deep: Any = 0.8
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(OverrideError, match=r"^override: is nested too deeply; "):
        apply_override(OPEN, {"accept": deep})


def test_a_direct_routers_fields_can_be_overridden_too() -> None:
    found = apply_override(
        policy("tier", "fallback", router=Direct(tier="slm")), {"tier": "llm", "fallback": False}
    )
    assert found.router == Direct(tier="llm", fallback=False)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
NAMES = st.sampled_from(["accept", "commit", "give_up", "calibrator", "kind", "", "name"])


@given(st.dictionaries(NAMES, JSON | st.floats(0, 1), max_size=4))
def test_whatever_a_request_says_is_a_valid_policy_or_refused(override: dict[str, Any]) -> None:
    found: Policy | str
    try:
        found = apply_override(OPEN, override)
    except OverrideError as error:
        found = str(error)
    if isinstance(found, str):
        assert found.startswith("override")
    else:
        assert override.keys() <= set(OPEN.overrides)
        assert isinstance(found.router, Cascade)
        assert found.router.model_dump() == ROUTER.model_dump() | override
        assert Policy.model_validate_json(found.model_dump_json()) == found


# --- what a policy may allow


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ("[accept, give_up]", None),
        ("[]", None),
        ("[tier]", f"overrides: expected fields of the router ({FIELDS}), found 'tier'"),
        ("[kind]", f"overrides: expected fields of the router ({FIELDS}), found 'kind'"),
        ("[calibrator]", f"overrides: expected fields of the router ({FIELDS}), found 'calibrator'"),
        ("accept", "overrides: Input should be a list, found 'accept'"),
        ("[1]", "overrides.0: Input should be a valid string, found 1"),
    ],
)  # fmt: skip
def test_a_policy_allows_fields_of_its_router(tmp_path: Path, overrides: str, told: str | None) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(f"description: x\nextends: auto\noverrides: {overrides}\n")
    if told is None:
        assert ", ".join(load_policy(path).overrides) == overrides.strip("[]")
        return
    with pytest.raises(ConfigError) as error:
        load_policy(path)
    assert str(error.value) == f"{path}:3: {told}"
