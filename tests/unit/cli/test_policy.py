"""`smallfirst policy`, as it is typed."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from support.gateways import simple_calibrator
from typer.testing import CliRunner

from gateway.cli import app

CONFIG = """\
local: null
expose_models: true
upstreams:
  - {name: near, tier: slm, url: "http://127.0.0.1:9/v1", model: small}
  - {name: far, tier: llm, url: "http://127.0.0.1:9/v1", model: large, key: sk-secret}
policies: {folder: policies}
"""
MINE = """\
description: Mine.
router:
  kind: cascade
  accept: 0.5
  give_up: 0.1
  calibrator: own.json
overrides: [accept]
"""
ASK = {"messages": [{"role": "user", "content": "What is the opposite of hot?"}]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of `mine` and of `other`, which extends it; smallfirst.yaml beside names it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "smallfirst.yaml").write_text(CONFIG)
    path = tmp_path / "policies"
    path.mkdir()
    (path / "own.json").write_text(simple_calibrator().model_dump_json())
    (path / "mine.yaml").write_text(MINE)
    (path / "other.yaml").write_text("description: Other.\nextends: mine\nrouter: {accept: 0.75}\n")
    return path


def run(*arguments: str, stdin: bytes = b"") -> Result:
    return CliRunner().invoke(app, ["policy", *arguments], input=stdin)


def printed(*arguments: str, stdin: bytes = b"") -> list[str]:
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.output
    return result.stdout.splitlines()


def refused(*arguments: str, stdin: bytes = b"") -> str:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert "Traceback" not in result.output
    return result.stderr.strip()


def body(**more: Any) -> bytes:
    return json.dumps(ASK | more).encode()


def test_list_says_what_is_served_and_why_what_is_not_is_not(folder: Path):
    (folder / "own.json").write_text(simple_calibrator(model="other").model_dump_json())
    found = printed("list")
    assert {" ".join(line.split()) for line in found} >= {
        "auto cascade The small model first; the large one where the draft's calibrated confidence is low.",
        "mine cascade Mine.",
        "other cascade Other.",
    }
    at, mine, other = (
        next(number for number, line in enumerate(found) if line.startswith(name))
        for name in ("auto", "mine", "other")
    )
    unmade = "uncalibrated: there is no calibrator for small on openai; make one with: smallfirst calibrate"
    assert found[at + 1].strip() == unmade
    assert found[at + 3].strip() == "uncalibrated, as auto"
    assert found[mine + 1].strip().startswith("not served: its calibrator is made for other on openai")
    assert found[other + 1].strip() == "not served, as mine"
    assert found[mine].index("cascade") == found[at].index("cascade")


def test_show_prints_what_the_files_say_together():
    found = [line.split("  # ") for line in printed("show", "other")]
    assert [(text.rstrip(), origin) for text, origin in found if origin != "default"] == [
        ("description: Other.", "policies/other.yaml:1"),
        ("router:", "policies/other.yaml:3"),
        ("  kind: cascade", "policies/mine.yaml:3"),
        ("  accept: 0.75", "policies/other.yaml:3"),
        ("  give_up: 0.1", "policies/mine.yaml:5"),
        ("  calibrator: own.json", "policies/mine.yaml:6"),
        ("overrides: [accept]", "policies/mine.yaml:7"),
    ]


def test_show_prints_a_file_and_is_not_hindered_by_others(folder: Path):
    (folder / "broken.yaml").write_text("x: 1\n")
    assert printed("show", "mine") == printed("show", "policies/mine.yaml")


def test_what_looks_like_markup_or_an_emoji_is_printed_as_it_is(folder: Path):
    (folder / "odd.yaml").write_text("description: 'a [bold]:key:[/bold] b'\nextends: offline\n")
    assert printed("show", "odd")[0].startswith("description: a [bold]:key:[/bold] b  #")


def test_diff_prints_each_path_that_differs():
    expected = ["description: Mine. -> Other.", "router.accept: 0.5 -> 0.75"]
    assert printed("diff", "mine", "other") == expected
    assert printed("diff", "mine", "policies/other.yaml") == expected
    assert printed("diff", "mine", "mine") == []


def test_a_policy_that_is_not_there_is_told_those_that_are():
    for arguments in (("show", "none"), ("diff", "mine", "none")):
        told = refused(*arguments)
        assert told.startswith("smallfirst: there is no policy 'none'; there are: auto, ")
        assert told.endswith(", mine, other, or a policy's .yaml file")
    assert refused("show", "none.yaml") == "smallfirst: none.yaml: cannot be read: No such file or directory"


def test_a_mistake_is_told_by_file_and_line(folder: Path):
    (folder / "mine.yaml").write_text(MINE.replace("0.5", "5"))
    told = "smallfirst: policies/mine.yaml:4: router.accept: Input should be less than or equal to 1, found 5"
    assert refused("list") == told
    assert refused("show", "mine") == told
    assert refused("explain", "-", "--policy", "mine", stdin=body()) == told
    result = CliRunner().invoke(app, ["check"])
    assert (result.exit_code, result.stderr.strip()) == (2, told)


def test_check_tells_what_is_wrong_along_a_chain(folder: Path):
    (folder / "mine.yaml").write_text(MINE + "extends: other\n")
    result = CliRunner().invoke(app, ["check"])
    assert (result.exit_code, result.stderr.strip().removeprefix("smallfirst: ").splitlines()) == (
        2,
        [
            "policies/other.yaml:2: extends: expected a chain that ends, found mine -> other -> mine",
            "policies/mine.yaml:8: extends: expected a chain that ends, found other -> mine -> other",
        ],
    )


# --- explain


def test_explain_says_what_would_be_done(tmp_path: Path):
    (tmp_path / "request.json").write_bytes(body(model="mine", max_tokens=5))
    assert printed("explain", "request.json")[:9] == [
        "policy   mine (cascade)",
        "request  stream: false, judgeable: true",
        "slm      small (near)",
        "llm      large (far)",
        "ask the slm, watched: give up under 0.1, accept at >= 0.5",
        "  if confident: serve the slm answer (reason confident)",
        "  if low_confidence: ask the llm (low_confidence)",
        "    if answered: serve the llm answer (reason low_confidence)",
        "    if unavailable, prompt too long or request rejected: serve the slm answer (reason no_llm)",
    ]


def test_explain_takes_the_policy_from_where_a_gateway_would():
    expected = printed("explain", "-", stdin=body(model="other"))
    assert expected[4] == "ask the slm, watched: give up under 0.1, accept at >= 0.75"
    assert printed("explain", "-", stdin=body(model="mine", smallfirst={"policy": "other"})) == expected
    assert printed("explain", "-", "--policy", "other", stdin=body()) == expected
    assert printed("explain", "-", "--policy", "other", stdin=body(smallfirst={"policy": "mine"})) == expected
    assert printed("explain", "-", stdin=body(model="large"))[4] == (
        "ask the llm, waiting up to 15 s for its restart"
    )


def test_explain_tells_of_the_guard_first(folder: Path):
    guard = "guard: {input: true, output: 0.8, action: escalate}"
    (folder / "guarded.yaml").write_text(f"description: Guarded.\nextends: mine\n{guard}\n")
    assert printed("explain", "-", stdin=body(model="guarded"))[4] == (
        "have the slm judge the request (flagged at >= 0.5) and the answer, which is held to its end "
        "(flagged at >= 0.8); what is flagged: escalate"
    )


def test_explain_applies_what_the_request_overrides():
    found = printed("explain", "-", stdin=body(model="mine", smallfirst={"override": {"accept": 0.9}}))
    assert found[0] == "policy   mine (cascade, accept overridden: 0.9)"
    assert found[4] == "ask the slm, watched: give up under 0.1, accept at >= 0.9"


def test_explain_sees_the_passages_of_a_request():
    found = printed("explain", "-", stdin=body(model="mine", smallfirst={"context": ["a", "b"]}))
    assert found[1] == "request  stream: false, judgeable: true, passages: 2"
    told = refused("explain", "-", stdin=body(model="mine", smallfirst={"context": [3]}))
    assert "smallfirst.context[0] must be a string or an object with its text, not an integer" in told


def test_explain_sees_what_the_request_asks_for():
    found = printed("explain", "-", stdin=body(model="mine", stream=True, n=2))
    assert found[1] == "request  stream: true, judgeable: false"
    assert found[4] == "ask the llm (not_judged)"


def test_explain_knows_the_tiers_that_are_configured(tmp_path: Path):
    config = "".join(line for line in CONFIG.splitlines(keepends=True) if "tier: llm" not in line)
    (tmp_path / "smallfirst.yaml").write_text(config)
    found = printed("explain", "-", stdin=body(model="mine"))
    assert found[2:5] == [
        "slm      small (near)",
        "llm      none is configured",
        "ask the slm (no_llm), waiting up to 15 s for its restart",
    ]


def test_explain_shows_what_is_private_to_no_cloud(tmp_path: Path):
    (tmp_path / "smallfirst.yaml").write_text(CONFIG.replace("tier: llm", "tier: llm, cloud: true"))
    found = printed("explain", "-", stdin=body(model="mine", smallfirst={"private": True}))
    assert found[2:5] == [
        "slm      small (near)",
        "llm      none that may see what is private",
        "ask the slm (no_llm), waiting up to 15 s for its restart",
    ]


@pytest.mark.parametrize(
    ("stdin", "told"),
    [
        (b"{", "the request body is not valid JSON: "),
        (body(), "model is required"),
        (b'{"model": "mine"}', "messages is required"),
        (
            body(model="none"),
            "the model 'none' does not exist; there are: ",
        ),
        (body(model="foreign"), "policy foreign can't be used: its calibrator is made for"),
        (body(model="mine", smallfirst=1), "smallfirst: must be an object; known keys: "),
        (
            body(model="mine", smallfirst={"override": {"give_up": 0}}),
            "smallfirst.override.give_up: is not to be overridden; policy mine lets a request override accept",
        ),
    ],
)
def test_explain_refuses_what_a_gateway_would(folder: Path, stdin: bytes, told: str):
    (folder / "foreign.json").write_text(simple_calibrator(model="other").model_dump_json())
    (folder / "foreign.yaml").write_text(MINE.replace("own.json", "foreign.json"))
    assert refused("explain", "-", stdin=stdin).startswith(f"smallfirst: {told}")


def test_explain_names_a_request_that_can_not_be_read():
    assert refused("explain", "none.json") == (
        "smallfirst: none.json: cannot be read: No such file or directory"
    )


def test_show_names_the_file_that_stock_means():
    (line,) = [line for line in printed("show", "auto") if line.startswith("  calibrator:")]
    assert line.endswith("# built in, auto.yaml:9; calibrators/generic.json (uncalibrated)")


def test_explain_says_that_a_policy_is_uncalibrated():
    unmade = "uncalibrated: there is no calibrator for small on openai; make one with: smallfirst calibrate"
    assert unmade in printed("explain", "-", "--policy", "auto", stdin=body())
    assert not any(
        "uncalibrated" in line for line in printed("explain", "-", "--policy", "mine", stdin=body())
    )
