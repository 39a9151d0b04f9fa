"""What a command says of its work, and the outcome that is reported: exit code first, then its words.

A result is one line of JSON, on the descriptor that `TASK_RESULT_FD` names, else as the last line of its output. What
cannot be used of it is said in a note; the work counts all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Struct

from schemas.events import Outcome
from schemas.vocabulary import MOMENT_PATTERN, OVERLOADED, Fit, Share, Tokens, Word, from_millis
from streams.core.policy.document import nearest
from streams.dispatch.keeper import CANNOT_RUN, NOT_FOUND, SIGNALLED

#: Longest line that is read as a result.
LINE_BYTES_MAX: Final = 65_536
#: Exit codes with a meaning of their own, by the error class that is reported. 75: sysexits.h, EX_TEMPFAIL; 124: as
#: timeout(1) ends; 126 and 127: as a shell does.
ERROR_CLASSES: Final = {75: "rate_limited", 124: "timeout", CANNOT_RUN: "cannot_run", NOT_FOUND: "not_found"}


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a command may say; the fields are those of an outcome (docs/events.md), all optional."""

    status: Literal["success", "failure"] | None = None
    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    cached_input_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    cost_usd: Annotated[float, Meta(ge=0.0, le=1e9)] | None = None
    quality: Share | None = None
    accepted: bool | None = None
    fit: Fit | None = None
    error_class: Word | None = None
    retry_at: Annotated[str, Meta(pattern=MOMENT_PATTERN)] | None = None
    #: Instead of `retry_at`: seconds from now, as vendors send it.
    retry_after_s: Annotated[float, Meta(ge=0.0, le=31_536_000.0)] | None = None


_FIELDS: Final = {field.encode_name: field.type for field in msgspec.structs.fields(Result)}


def read_result(written: bytes, printed: bytes) -> tuple[Result, list[str]]:
    """Return the result in what was written to the descriptor, else in the last line that was printed; with notes."""
    line = _last_line(written)
    if line is not None:
        value = _json(line)
        if not isinstance(value, dict):
            return Result(), ["The result is no JSON object, and is not read."]
        notes: list[str] = []
        return _result(value, notes), notes
    line = _last_line(printed)
    value = _json(line) if line is not None and line.startswith(b"{") else None
    # An answer may end with JSON of its own: only an object that is a result altogether is one.
    if isinstance(value, dict) and value and all(name in _FIELDS for name in value):
        notes = []
        return _result(value, notes), notes
    return Result(), []


def merged(said: Result, read: Result) -> Result:
    """Return what a command said of itself, and for the rest what its output says."""
    return msgspec.structs.replace(
        read, **{name: value for name in _FIELDS if (value := getattr(said, name)) is not None}
    )


def outcome_of(task_id: str, exit_code: int, result: Result, latency_s: float, now_ms: int) -> Outcome:
    """Return the outcome of a work that ended by itself."""
    failed = exit_code != 0 or result.status == "failure" or result.error_class in OVERLOADED
    return _outcome(
        task_id,
        "failure" if failed else "success",
        result,
        latency_s,
        error_class=(result.error_class or _error_class(exit_code)) if failed else None,
        retry_at=_retry_at(result, now_ms) if failed else None,
    )


def cancelled(task_id: str, result: Result, latency_s: float) -> Outcome:
    """Return the outcome of a work that was stopped because its task was cancelled: what it used counts."""
    return _outcome(task_id, "cancelled", result, latency_s)


def _outcome(
    task_id: str,
    status: Literal["success", "failure", "cancelled"],
    result: Result,
    latency_s: float,
    *,
    error_class: str | None = None,
    retry_at: str | None = None,
) -> Outcome:
    return Outcome(
        task_id=task_id,
        status=status,
        input_tokens=result.input_tokens,
        output_tokens=result.output_tokens,
        cached_input_tokens=result.cached_input_tokens,
        reasoning_tokens=result.reasoning_tokens,
        cost_usd=result.cost_usd,
        latency_s=round(latency_s, 3),
        quality=result.quality,
        accepted=result.accepted,
        fit=result.fit,
        error_class=error_class,
        retry_at=retry_at,
    )


def _error_class(exit_code: int) -> str:
    if exit_code in ERROR_CLASSES:
        return ERROR_CLASSES[exit_code]
    if exit_code > SIGNALLED:
        return f"signal_{exit_code - SIGNALLED}"
    return f"exit_{exit_code}" if exit_code else "failed"


def _retry_at(result: Result, now_ms: int) -> str | None:
    if result.retry_at is None and result.retry_after_s is not None:
        return from_millis(now_ms + round(result.retry_after_s * 1000))
    return result.retry_at


def _result(value: dict[str, Any], notes: list[str]) -> Result:
    return Result(**dict(_usable(value, notes)))


def _usable(value: dict[str, Any], notes: list[str]) -> Iterator[tuple[str, Any]]:
    for name, one in value.items():
        if name not in _FIELDS:
            notes.append(f"result: {name} is no field of it, and is not read.{nearest(name, _FIELDS)}")
            continue
        try:
            usable = msgspec.convert(one, _FIELDS[name], strict=True)
        except msgspec.ValidationError as error:
            why = "it is no time such as 2026-11-29T10:00:00Z" if name == "retry_at" else error
            notes.append(f"result: {name} cannot be used: {why}.")
            continue
        yield name, usable


def _last_line(text: bytes) -> bytes | None:
    """Return the last line with anything on it; one that is too long for a result is none."""
    lines = text.rstrip().rsplit(b"\n", 1)
    last = lines[-1].strip()
    return last if last and len(last) <= LINE_BYTES_MAX else None


def _json(line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
