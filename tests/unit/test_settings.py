"""smallfirst.yaml and the environment: what they come to, and how a mistake is told."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.gateways import simple_calibrator

from gateway.settings import default_config_path, load_settings
from gateway.upstreams.upstream import Upstream
from policies.loading.yaml_files import ConfigError

Write = Callable[[str], Path]

TWO = """\
local: null
upstreams:
  - name: near
    tier: slm
    url: http://127.0.0.1:8001/v1
    model: small
  - name: far
    tier: llm
    url: https://far.example/v1
    model: large
    key: ${FAR_KEY}
    headers: {X-Team: "${FAR_TEAM}"}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def one(text: str) -> Path:
        path = tmp_path / "smallfirst.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return one


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAR_KEY", "sk-far-secret")
    monkeypatch.setenv("FAR_TEAM", "team-secret")


def refused(path: Path | None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_settings(path)
    return str(caught.value)


def test_without_a_file_the_built_in_engine_serves():
    settings = load_settings()
    assert settings.local is not None
    assert settings.upstreams == ()
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.1", 8000)
    assert settings.records.path is None


@pytest.mark.usefixtures("keys")
def test_a_file_is_read_with_its_variables_filled_in(write: Write):
    near, far = load_settings(write(TWO)).upstreams
    assert (near.name, near.tier, near.key) == ("near", "slm", None)
    assert far.key is not None
    assert far.key.get_secret_value() == "sk-far-secret"
    assert far.headers["X-Team"].get_secret_value() == "team-secret"


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("listen:\n  prt: 1\n", 2, "listen.prt: unknown key"),
        ("lissen: {}\n", 1, "lissen: unknown key"),
        ("listen:\n  port: high\n", 2, "listen.port: Input should be a valid integer"),
        (
            "listen:\n  host: x\n  port: 70000\n",
            3,
            "listen.port: Input should be less than or equal to 65535",
        ),
        ("listen: 7\n", 1, "listen: Input should be a mapping"),
        (TWO.replace("tier: llm", "tier: xxl"), 8, "upstreams.1.tier: Input should be 'slm' or 'llm'"),
        (TWO.replace("    model: large\n", ""), 7, "upstreams.1.model: this key is required"),
        (TWO.replace("https://far.example/v1", "far"), 9, "upstreams.1.url: Input should be a valid URL"),
        (TWO.replace("name: far", "name: near"), 7, "upstreams.1.name: another upstream is named 'near'"),
        (
            TWO.replace("local: null", "local: {}").replace("near", "local"),
            3,
            "upstreams.0.name: another upstream is named",
        ),
        (TWO + "    weight: .inf\n", 13, "upstreams.1.weight: Input should be a finite number"),
        (TWO + "    weight: 0\n", 13, "upstreams.1.weight: Input should be greater than 0"),
        (TWO + "    probe: -1\n", 13, "upstreams.1.probe: Input should be greater than or equal to 0"),
        (TWO + "    capabilities: {logprob: true}\n", 13, "upstreams.1.capabilities.logprob: unknown key"),
        (TWO.replace("FAR_KEY", "MISSING"), 11, "upstreams.1.key: the environment variable MISSING is not"),
        (TWO.replace("FAR_TEAM", "MISSING"), 12, "upstreams.1.headers.X-Team: the environment variable MISS"),
        ("local: null\n", 1, "upstreams: neither a local engine nor an upstream"),
        ("listen:\n  port: 1\n  port: 2\n", 3, "listen.port: this key stands twice"),
        ("listen: {port: 1\n", 2, "is not YAML"),
        ("- listen\n", 1, "expected a mapping"),
        ("1: 2\n", 1, "1: unknown key"),
        ("local:\n  engine: tgi\n", 2, "local.engine: Input should be 'llamacpp' or 'vllm'"),
        ("records:\n  queue: 0\n", 2, "records.queue: Input should be greater than 0"),
    ],
)
@pytest.mark.usefixtures("keys")
def test_a_mistake_is_told_by_file_line_and_path(write: Write, text: str, line: int, said: str):
    path = write(text)
    message = refused(path)
    assert message.startswith(f"{path}:{line}: {said}"), message
    assert "sk-far-secret" not in message


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("local", "there"), [("local: null\n", False), ("", False), ("local: {slots: 2}\n", True)]
)
def test_the_built_in_engine_stands_beside_another_small_model_only_when_asked_for(
    write: Write, local: str, there: bool
):
    settings = load_settings(write(TWO.replace("local: null\n", local)))
    assert (settings.local is not None) is there
    assert [upstream.tier for upstream in settings.upstreams] == ["slm", "llm"]


@pytest.mark.usefixtures("keys")
def test_a_tier_may_have_several_upstreams(write: Write):
    more = (
        "  - {name: spare, tier: llm, url: https://spare.example/v1, model: large, priority: 1, weight: 2}\n"
    )
    far, spare = load_settings(write(TWO + more)).upstreams[1:]
    assert (far.priority, far.weight) == (0, 1.0)
    assert (spare.priority, spare.weight) == (1, 2.0)


def test_several_mistakes_are_told_at_once(write: Write):
    lines = refused(write("listen:\n  prt: 1\n  port: x\n")).splitlines()
    assert len(lines) == 2


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    assert "No such file" in refused(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"listen: {host: \xff}")
    assert "is not UTF-8 text" in refused(tmp_path / "latin.yaml")


def test_the_environment_wins_over_the_file(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SMALLFIRST_LISTEN__PORT", "9000")
    monkeypatch.setenv("SMALLFIRST_LOCAL__SLOTS", "2")
    settings = load_settings(write("listen: {host: 127.0.0.2, port: 8080}\n"))
    assert (settings.listen.host, settings.listen.port) == ("127.0.0.2", 9000)
    assert settings.local is not None
    assert settings.local.slots == 2


@pytest.mark.parametrize(
    "name", ["SMALLFIRST_LISTN__PORT", "SMALLFIRST_PORT", "SMALLFIRST_LISTEN_PORT", "SMALLFIRST_"]
)
def test_a_mistyped_variable_is_an_error_that_names_those_there_are(
    monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.setenv(name, "9000")
    message = refused(None)
    assert f"{name}: unknown variable" in message
    assert all(
        known in message for known in ("SMALLFIRST_LISTEN,", "SMALLFIRST_CONFIG", "SMALLFIRST_LLM_MODEL")
    )


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("SMALLFIRST_LISTEN__PRT", "1", "SMALLFIRST_LISTEN__PRT: unknown key"),
        ("SMALLFIRST_LISTEN__PORT", "secret", "SMALLFIRST_LISTEN__PORT: Input should be a valid integer"),
        ("SMALLFIRST_LISTEN", "secret", "expected JSON"),
        ("SMALLFIRST_UPSTREAMS", '[{"name": "secret"}]', "SMALLFIRST_UPSTREAMS: 0: tier: Field required"),
    ],
)
def test_a_variables_wrong_value_is_told_as_the_environments(
    write: Write, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
):
    monkeypatch.setenv(name, value)
    message = refused(None)
    assert message.startswith("environment:")
    assert said in message
    assert "secret" not in message


@pytest.mark.parametrize("name", ["SMALLFIRST_DATA", "SMALLFIRST_WEIGHTS", "SMALLFIRST_CONFIG"])
def test_our_other_variables_are_no_mistakes(monkeypatch: pytest.MonkeyPatch, name: str):
    monkeypatch.setenv(name, "x")
    load_settings()


def test_a_key_in_the_environment_makes_the_llm_appear(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-cloud")
    (found,) = load_settings().upstreams
    assert (found.name, found.tier, str(found.url)) == ("openai", "llm", "https://api.openai.com/v1")
    assert found.key == SecretStr("sk-cloud")
    upstream = Upstream(found)
    assert upstream.has_price
    assert upstream.price.output > upstream.price.input > 0


def test_model_and_address_of_that_llm_can_be_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-cloud")
    monkeypatch.setenv("SMALLFIRST_LLM_MODEL", "gpt-4.1-mini")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    (found,) = load_settings().upstreams
    assert (found.model, str(found.url)) == ("gpt-4.1-mini", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_BASE_URL", "")
    assert str(load_settings().upstreams[0].url) == "https://api.openai.com/v1"
    monkeypatch.setenv("OPENAI_BASE_URL", "nowhere")
    assert refused(None).startswith("environment: OPENAI_BASE_URL: ")


def test_another_provider_is_found_by_its_key(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MISTRAL_API_KEY", "key")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    (found,) = load_settings().upstreams
    assert (found.name, found.engine, found.url.host) == ("mistral", "mistral", "api.mistral.ai")
    assert Upstream(found).has_price


@pytest.mark.usefixtures("keys")
def test_who_only_judges_stands_in_for_no_model(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-cloud")
    judges = [
        f"  - {{name: j-{tier}, tier: {tier}, url: http://localhost:1/v1, model: j, judges_only: true}}\n"
        for tier in ("slm", "llm")
    ]
    settings = load_settings(write("upstreams:\n" + "".join(judges)))
    assert settings.local is not None
    assert [upstream.name for upstream in settings.upstreams] == ["j-slm", "j-llm", "openai"]


@pytest.mark.usefixtures("keys")
def test_an_llm_in_the_file_is_not_joined_by_another(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-cloud")
    assert [upstream.name for upstream in load_settings(write(TWO)).upstreams] == ["near", "far"]


@pytest.mark.usefixtures("keys")
def test_secrets_are_masked(write: Write, monkeypatch: pytest.MonkeyPatch):
    settings = load_settings(write(TWO + "    query: {token: query-secret}\n"))
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert "secret" not in shown.replace("SecretStr", "")


def test_relative_paths_are_meant_from_the_file(write: Write, monkeypatch: pytest.MonkeyPatch):
    text = "records: {path: kept}\npolicies: {folder: mine}\nmodels_folder: weights\nlocal: {model: m.gguf}\n"
    path = write(text)
    settings = load_settings(path)
    assert settings.records.path == path.parent / "kept"
    assert settings.policies.folder == path.parent / "mine"
    assert settings.models_folder == path.parent / "weights"
    assert settings.local is not None
    assert settings.local.model == str(path.parent / "m.gguf")
    absolute = load_settings(write("records: {path: /kept}\npolicies: {folder: ~/mine}\n"))
    assert absolute.records.path == Path("/kept")
    assert absolute.policies.folder == Path.home() / "mine"


def test_the_file_is_the_named_one_else_the_one_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert default_config_path() is None
    (tmp_path / "smallfirst.yaml").touch()
    assert default_config_path() == Path("smallfirst.yaml")
    monkeypatch.setenv("SMALLFIRST_CONFIG", "other.yaml")
    assert default_config_path() == Path("other.yaml")


def test_a_calibrator_of_ones_own_is_named_from_the_settings_file(write: Write):
    path = write("calibrators:\n  Small.Q4: own.json\n")
    (path.parent / "own.json").write_text(simple_calibrator().model_dump_json())
    assert load_settings(path).calibrators == {"Small.Q4": path.parent / "own.json"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            None,
            "smallfirst.yaml:2: calibrators.small: {folder}/own.json: No such file or directory; expected a",
        ),
        ("{\n}", "{folder}/own.json:1: made_for: this key is required"),
        (simple_calibrator(mode="constrained").model_dump_json(), "smallfirst.yaml:2: calibrators.small: "),
    ],
    ids=["absent", "broken", "constrained"],
)
def test_a_calibrator_that_can_not_be_used_is_told_with_its_place(
    write: Write, content: str | None, said: str
):
    path = write("calibrators:\n  small: own.json\n")
    if content is not None:
        (path.parent / "own.json").write_text(content)
    assert refused(path).replace(f"{path}:", "smallfirst.yaml:").startswith(said.format(folder=path.parent))
