"""Presets: the command lines that they build, and what they read in the output of each program."""

from __future__ import annotations

import json

import pytest

from streams.dispatch.presets import PRESETS, Output
from streams.dispatch.result import Result

COMMANDS = {
    "claude": "claude -p --output-format json --model m --flag",
    "codex": "codex exec --json --model m --flag -",
    "gemini": "gemini --output-format json --model m --flag",
    "ollama": "ollama run --verbose m --flag",
}

CLAUDE = {
    "type": "result",
    "subtype": "success",
    "is_error": False,
    "result": "Done; the limit reached|1796000000 is a quote of the task.",
    "total_cost_usd": 0.0123,
    "usage": {
        "input_tokens": 4,
        "cache_creation_input_tokens": 100,
        "cache_read_input_tokens": 1000,
        "output_tokens": 50,
    },
}
CODEX = [
    {"type": "thread.started", "thread_id": "x"},
    {"type": "error", "message": "stream disconnected; reconnecting"},
    {"type": "item.completed", "item": {"id": "1", "type": "agent_message", "text": "429 rate limit"}},
    {"type": "turn.completed", "usage": {"input_tokens": 200, "cached_input_tokens": 150, "output_tokens": 20}},
]
GEMINI = {
    "response": "Done.",
    "stats": {
        "models": {
            "flash": {"tokens": {"prompt": 10, "candidates": 2, "cached": 1, "thoughts": 3, "tool": 0, "total": 15}},
            "pro": {"tokens": {"prompt": 100, "candidates": 20, "cached": 0, "thoughts": 30, "tool": 0, "total": 150}},
        }
    },
}
OLLAMA = """total duration:       1.2s
prompt eval count:    26 token(s)
prompt eval duration: 130ms
eval count:           298 token(s)
"""

READINGS = {
    "claude": (
        Output(f"a warning\n{json.dumps(CLAUDE)}", ""),
        Result(input_tokens=1104, cached_input_tokens=1000, output_tokens=50, cost_usd=0.0123),
    ),
    "codex": (
        Output("\n".join(map(json.dumps, CODEX)), ""),
        Result(input_tokens=200, cached_input_tokens=150, output_tokens=20),
    ),
    "gemini": (
        Output(json.dumps(GEMINI, indent=2), ""),
        Result(input_tokens=110, cached_input_tokens=1, output_tokens=55, reasoning_tokens=33),
    ),
    "ollama": (Output("an answer", OLLAMA), Result(input_tokens=26, output_tokens=298)),
}


@pytest.mark.parametrize(("name", "want"), COMMANDS.items())
def test_a_preset_builds_a_command_line_without_any_text_of_the_task(name: str, want: str) -> None:
    """Program, model and arguments; the prompt goes to standard input."""
    assert " ".join(PRESETS[name].command("m", ("--flag",))) == want


@pytest.mark.parametrize(("name", "case"), READINGS.items())
def test_tokens_and_cost_are_read_where_a_program_prints_them(name: str, case: tuple[Output, Result]) -> None:
    """As an outcome counts them: cached input is a part of the input, thinking a part of the output."""
    output, want = case
    assert PRESETS[name].result(output, 0) == want


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("stdout", ["", "plain text", "{", "[1, 2]", '{"usage": 3, "stats": [], "type": 1}', "{}{}"])
def test_an_output_of_another_form_says_nothing(name: str, stdout: str) -> None:
    """Work that succeeded counts, whatever a new version of its program prints."""
    assert PRESETS[name].result(Output(stdout, ""), 0) == Result()


FAILURES = {
    "claude, of a subscription": (
        "claude",
        Output(json.dumps({"is_error": True, "result": "Claude AI usage limit reached|1796000000"}), ""),
        Result(status="failure", error_class="quota", retry_at="2026-11-30T00:53:20.000Z"),
    ),
    "claude, of the vendor": (
        "claude",
        Output(json.dumps({"is_error": True, "result": 'API Error: 529 {"type":"overloaded_error"}'}), ""),
        Result(status="failure", error_class="overloaded"),
    ),
    "codex": (
        "codex",
        Output(json.dumps({"type": "turn.failed", "error": {"message": "exceeded retry limit, last status: 429"}}), ""),
        Result(status="failure", error_class="rate_limited"),
    ),
    "gemini": (
        "gemini",
        Output(json.dumps({"error": {"type": "Error", "message": "RESOURCE_EXHAUSTED", "code": 1}}), ""),
        Result(status="failure", error_class="rate_limited"),
    ),
    "a failure of another kind": ("gemini", Output("", "no such model"), Result(status="failure")),
}


@pytest.mark.parametrize(("name", "output", "want"), FAILURES.values(), ids=FAILURES)
def test_a_limit_is_recognised_in_the_words_of_an_error(name: str, output: Output, want: Result) -> None:
    """Then the task loses no attempt; other failures are failures."""
    assert PRESETS[name].result(output, 1) == want


def test_an_answer_about_limits_is_no_limit() -> None:
    """What the agent wrote is not searched, only errors are: the work may be about rate limits."""
    answer = {"is_error": False, "result": "I raised the rate limit; 429 is handled.", "subtype": "error_max_turns"}
    assert PRESETS["claude"].result(Output(json.dumps(answer), ""), 1) == Result(status="failure")


def test_an_error_that_a_program_reports_is_a_failure_whatever_its_exit_code() -> None:
    """`is_error` of claude, `turn.failed` of codex, `error` of gemini."""
    assert PRESETS["claude"].result(Output('{"is_error": true}', ""), 0).status == "failure"
    assert PRESETS["codex"].result(Output('{"type": "turn.failed"}', ""), 0).status == "failure"
    assert PRESETS["gemini"].result(Output('{"error": {"message": "x"}}', ""), 0).status == "failure"
