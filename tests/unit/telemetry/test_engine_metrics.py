"""What a vLLM or a llama.cpp says of itself, in our metrics."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from support.fake_engine import FakeVllm
from support.gateways import Gateway, StartGateway, settings_of, upstream
from support.scripted_server import Scripted

from gateway.settings import Settings
from gateway.telemetry.engine_metrics import (
    ACCEPTED,
    DRAFTED,
    GENERATED_TOKENS,
    RUNNING,
    SERIES,
    Reading,
    generation_speed,
    parse_series,
)


async def shown(gateway: Gateway) -> dict[str, float]:
    async with gateway.http.get(f"{gateway.root}/metrics") as response:
        lines = (await response.text()).splitlines()
    return {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in lines)
        if name.startswith("smallfirst_engine_") and "restarts" not in name
    }


async def test_a_local_vllms_figures_stand_beside_ours(start: StartGateway, tmp_path: Path):
    gateway = await start(Settings(local=FakeVllm(tmp_path).engine()))
    found = await shown(gateway)
    assert found['smallfirst_engine_generation_tokens_total{upstream="local"}'] == 42
    assert found['smallfirst_engine_prompt_tokens_total{upstream="local"}'] == 7
    assert found['smallfirst_engine_drafts_total{upstream="local"}'] == 10
    assert found['smallfirst_engine_acceptance{upstream="local"}'] == 0.25
    assert 'smallfirst_engine_tokens_per_second{upstream="local"}' not in found  # read once only


async def test_a_server_that_shows_no_metrics_shows_none(start: StartGateway, slm: Scripted):
    gateway = await start(settings_of(upstream(slm, "slm", engine="vllm")))
    assert await shown(gateway) == {}


def test_series_are_summed_over_engines_and_others_are_left():
    text = '# TYPE x counter\nvllm:generation_tokens_total{engine="0"} 3.0\nvllm:generation_tokens_total 4\nx{} 1\n'
    assert parse_series(text, SERIES["vllm"]) == {GENERATED_TOKENS: 7.0}


def test_a_llama_cpps_figures_are_read_by_its_own_names():
    text = "llamacpp:tokens_predicted_total 172\nllamacpp:spec_decode_num_draft_tokens_total 32\n"
    text += "llamacpp:spec_decode_num_accepted_tokens_total 16\nllamacpp:requests_processing 1\n"
    text += 'llamacpp:spec_decode_num_accepted_tokens_per_pos_total{position="0"} 4\n'
    series = parse_series(text, SERIES["llamacpp"])
    assert series == {GENERATED_TOKENS: 172.0, DRAFTED: 32.0, ACCEPTED: 16.0, RUNNING: 1.0}
    assert Reading(0.0, series).acceptance == 0.5


@given(st.text())
def test_whatever_a_server_answers_is_no_series_of_ours_unless_it_is_named(text: str):
    assert parse_series(text, SERIES["llamacpp"]) == {}


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.floats(1.0, 1e6))
def test_a_speed_is_told_unless_the_engine_began_anew(before: int, after: int, seconds: float):
    speed = generation_speed(
        Reading(5.0, {GENERATED_TOKENS: before}), {GENERATED_TOKENS: after}, 5.0 + seconds
    )
    assert (speed is None) == (after < before)
    assert speed is None or speed >= 0


def test_an_acceptance_needs_drafts():
    assert Reading(0.0, {DRAFTED: 8.0, ACCEPTED: 2.0}).acceptance == 0.25
    assert Reading(0.0, {DRAFTED: 0.0}).acceptance is None
    assert Reading(0.0, {}).acceptance is None
