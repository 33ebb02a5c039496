"""Why an engine could not start, from the end of its log."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.local.supervision.startup_error import MAX_ERROR_LINES, find_error_lines

LEAKS = [f' - leaked function "f{index}"' for index in range(40)]


def test_a_reason_is_found_before_what_is_said_after_it():
    log = [
        "(APIServer pid=1) INFO starting",
        "(APIServer pid=1)   raise ValidationError(",
        "(APIServer pid=1) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig",
        "(APIServer pid=1)   Value error, User-specified max_model_len (100000) is greater than 8192",
        "(APIServer pid=1)     For further information visit https://errors.pydantic.dev",
        *LEAKS,
    ]
    assert find_error_lines(log) == log[2:5]


def test_every_error_is_told_the_cause_first():
    log = [
        "(EngineCore pid=2) ERROR 11-22 [core.py:1] ValueError: To serve at least one request",
        *LEAKS,
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    told = find_error_lines(log)
    assert (told[0], told[-1]) == (log[0], log[-1])


def test_an_error_in_llama_cpps_log_is_told_with_ours():
    log = [
        "0.01.509.137 E llama_init_from_model: quantized V cache requires flash_attn to be enabled",
        "error: llama.cpp cannot run model.gguf",
    ]
    assert find_error_lines(["0.00.100.000 I loading", "", "", *log]) == log


@given(st.lists(st.text(max_size=20)))
def test_there_are_never_too_many_and_some_where_there_are_any(lines: list[str]):
    told = find_error_lines(lines)
    assert len(told) <= MAX_ERROR_LINES
    assert set(told) <= set(lines)
    assert bool(told) == bool(lines)
