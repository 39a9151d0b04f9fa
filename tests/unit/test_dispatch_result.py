"""What a command says of its work, and what its exit code means."""

from __future__ import annotations

import pytest

from schemas.events import Outcome
from streams.dispatch.result import LINE_BYTES_MAX, Result, cancelled, merged, outcome_of, read_result

NOW_MS = 1_796_000_000_000


def outcome(exit_code: int, result: Result | None = None) -> Outcome:
    """Give the outcome of a task `t`."""
    return outcome_of("t", exit_code, result or Result(), 1.23456, NOW_MS)


EXIT_CODES = {
    0: ("success", None),
    1: ("failure", "exit_1"),
    75: ("failure", "rate_limited"),
    124: ("failure", "timeout"),
    126: ("failure", "cannot_run"),
    127: ("failure", "not_found"),
    137: ("failure", "signal_9"),
    255: ("failure", "signal_127"),
}


@pytest.mark.parametrize(("exit_code", "want"), EXIT_CODES.items())
def test_an_exit_code_is_an_outcome(exit_code: int, want: tuple[str, str | None]) -> None:
    """0 is a success, everything else a failure; some codes have an error class of their own."""
    made = outcome(exit_code)
    assert (made.status, made.error_class) == want
    assert made.latency_s == 1.235


def test_a_command_may_say_that_it_failed_though_it_ended_with_0() -> None:
    """The status it says counts, and so does an error class that is no attempt."""
    assert outcome(0, Result(status="failure")).error_class == "failed"
    assert outcome(0, Result(status="failure", error_class="refused")).error_class == "refused"
    limited = outcome(0, Result(error_class="quota"))
    assert (limited.status, limited.error_class) == ("failure", "quota")


def test_a_success_that_ends_with_another_code_is_a_failure() -> None:
    """A command that dies after its last word has not done its work."""
    made = outcome(3, Result(status="success", quality=1.0))
    assert (made.status, made.error_class, made.quality) == ("failure", "exit_3", 1.0)


def test_when_the_vendor_takes_work_again_is_a_time_or_seconds_from_now() -> None:
    """`retry_after_s` becomes a time; it says nothing of a success."""
    later = outcome(75, Result(retry_after_s=90))
    assert later.retry_at == "2026-11-30T00:54:50.000Z"
    assert outcome(75, Result(retry_at="2026-12-01T00:00:00Z", retry_after_s=90)).retry_at == "2026-12-01T00:00:00Z"
    assert outcome(0, Result(retry_after_s=90)).retry_at is None


def test_stopped_work_is_reported_with_what_it_used() -> None:
    """Cancelled, whatever it said of its success; its tokens and cost count."""
    made = cancelled("t", Result(status="success", cost_usd=0.5, output_tokens=7, error_class="x"), 2.0)
    assert made == Outcome(task_id="t", status="cancelled", cost_usd=0.5, output_tokens=7, latency_s=2.0)


def test_the_descriptor_comes_before_the_output() -> None:
    """The last line of either; what was printed counts where nothing was written."""
    assert read_result(b'{"quality":0.1}\n{"quality":0.9}\n', b'{"quality":0.5}') == (Result(quality=0.9), [])
    assert read_result(b"\n", b'working\n{"quality":0.5,"cost_usd":1}\n\n') == (Result(quality=0.5, cost_usd=1.0), [])


@pytest.mark.parametrize(
    "printed",
    [
        b"",
        b"done",
        b"{}",
        b'{"answer":42}',
        b'{"quality":0.5,"answer":42}',
        b"[1]",
        b'{"quality":',
        b'{"quality":0.5}\nbye',
        b"\xff\xfe{",
        b'{"error_class":"' + b"x" * LINE_BYTES_MAX + b'"}',
    ],
)
def test_an_answer_that_ends_with_json_is_no_result(printed: bytes) -> None:
    """Only an object of which every field is one of a result counts as one."""
    assert read_result(b"", printed) == (Result(), [])


def test_what_cannot_be_used_is_said_and_the_rest_counts() -> None:
    """A wrong value, an unknown field, a time that is none: a sentence each."""
    result, notes = read_result(
        b'{"quality":7,"costusd":1,"input_tokens":5,"retry_at":"tomorrow","fit":"good_fit","status":"cancelled"}', b""
    )
    assert result == Result(input_tokens=5, fit="good_fit")
    assert [note.partition(" ")[2].partition(" ")[0] for note in notes] == ["quality", "costusd", "retry_at", "status"]
    assert "Did you mean cost_usd?" in notes[1]
    assert read_result(b"all fine", b'{"quality":1}') == (Result(), ["The result is no JSON object, and is not read."])
    assert read_result(b'{"retry_at":"2026-02-30T00:00:00Z"}', b"")[1] == [
        "result: retry_at cannot be used: it is no time such as 2026-11-29T10:00:00Z."
    ]


def test_what_a_command_says_comes_before_what_its_output_says() -> None:
    """A quality from a judge beside the tokens that a preset reads."""
    assert merged(Result(quality=0.5, cost_usd=1.0), Result(cost_usd=2.0, input_tokens=3)) == Result(
        quality=0.5, cost_usd=1.0, input_tokens=3
    )
