"""What a program may say of a task and of an outcome: the fields of the events as keyword arguments, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TypedDict

import msgspec

from schemas.codec import read_event, write_event
from schemas.events import Affinity, FleetControl, Outcome, SlotFreed, TaskPending
from schemas.input import Unreadable
from schemas.record import Record
from schemas.vocabulary import (
    Complexity,
    Dimension,
    Fit,
    Objective,
    OnFailure,
    OutcomeStatus,
    Profile,
    Strategy,
    Tier,
    from_millis,
)
from streams.errors import MISTAKE, SlotwiseError

SOURCE = "/slotwise/client"


class NotAccepted(SlotwiseError, ValueError):
    """What a program said is no event that the router would take; the message is the sentence of its dead letter."""

    exit_code = MISTAKE


class TaskFields(TypedDict, total=False):
    """The optional fields of `task.pending` (docs/events.md); `payload` is any value that JSON has."""

    title: str
    requires: Mapping[Dimension, int]
    priority: int
    quest_priority: int
    ev: float | None
    importance: float | None
    tractability: float | None
    impact: float | None
    estimated_cost: float | None
    layer: str | None
    lane: str | None
    agent_role: str | None
    task_type: str | None
    complexity: Complexity | None
    output_length_target: int | None
    has_revision_history: bool
    context_richness: float | None
    requires_reasoning: bool
    input_tokens: int
    output_tokens: int | None
    tenant_id: str | None
    floor_model: str | None
    strategy: Strategy | None
    objective: Objective | None
    profile: Profile | None
    max_tier: Tier | None
    allow_providers: Sequence[str]
    deny_providers: Sequence[str]
    local_only: bool
    deadline: str | datetime | None
    not_before: str | datetime | None
    attempt: int
    affinity: Affinity | None
    on_failure: OnFailure
    lease_s: float | None
    ref: str | None
    labels: Mapping[str, str]
    payload: Any


class OutcomeFields(TypedDict, total=False):
    """The optional fields of an outcome (docs/events.md), but for the class of an error."""

    input_tokens: int | None
    output_tokens: int | None
    cached_input_tokens: int | None
    reasoning_tokens: int | None
    cost_usd: float | None
    latency_s: float | None
    quality: float | None
    accepted: bool | None
    retry_at: str | datetime | None
    fit: Fit | None


def task_pending(pool: str, task_id: str, at_ms: int, fields: TaskFields) -> TaskPending:
    """Return the event of a task, as the router will read it.

    Raises:
        NotAccepted: a field is unknown or has a value that the router would refuse.
    """
    given: dict[str, Any] = {"task_id": task_id, "pool": pool, "at": from_millis(at_ms), **fields}
    unknown = given.keys() - set(TaskPending.__struct_fields__)
    if unknown:
        raise TypeError(f"a task has no field {min(unknown)}; docs/events.md lists those of task.pending")
    _require_finite(given, ())
    for name in ("deadline", "not_before"):
        given[name] = _time(given.get(name))
    for name in ("allow_providers", "deny_providers"):
        given[name] = tuple(given.get(name, ()))
    payload = given.pop("payload", None)
    try:
        text = None if payload is None else msgspec.json.encode(payload).decode()
        return TaskPending(**given, payload=text)
    except (TypeError, ValueError) as error:
        raise NotAccepted(f"field payload: no JSON can be made of it: {error}.") from error


def outcome_of(task_id: str, status: OutcomeStatus, error_class: str | None, fields: OutcomeFields) -> Outcome:
    """Return the outcome of work.

    Raises:
        TypeError: there is no such field.
    """
    given: dict[str, Any] = {**fields, "retry_at": _time(fields.get("retry_at"))}
    _require_finite(given, ("outcome",))
    return Outcome(task_id=task_id, status=status, error_class=error_class, **given)


def record_of(topic: str, event: TaskPending | SlotFreed | FleetControl, ce_id: str, time_ms: int) -> Record:
    """Return the record of an event, which is first read as the router will read it.

    Raises:
        NotAccepted: the router would refuse it.
    """
    try:
        record = write_event(topic, event, ce_id=ce_id, source=SOURCE, time_ms=time_ms)
    except (TypeError, ValueError) as error:
        raise NotAccepted(f"no event can be written of it: {error}.") from error
    read = read_event(topic, record.key, record.value, record.headers)
    if isinstance(read, Unreadable):
        raise NotAccepted(read.reason)
    return record


def _require_finite(value: object, path: tuple[str, ...]) -> None:
    """Refuse what JSON has no number for; it would be written as null."""
    if isinstance(value, float) and not isfinite(value):
        raise NotAccepted(f"field {'.'.join(path)}: {value} is no finite number.")
    if isinstance(value, Mapping):
        for name, part in value.items():
            _require_finite(part, (*path, str(name)))
    elif isinstance(value, list | tuple):
        for part in value:
            _require_finite(part, path)


def _time(given: str | datetime | None) -> str | None:
    """Return a time as events spell it; a datetime needs its zone."""
    if not isinstance(given, datetime):
        return given
    if given.tzinfo is None:
        raise NotAccepted(f"The time {given} has no zone: make it with datetime.now(UTC), or give it as text with Z.")
    return from_millis(round(given.astimezone(UTC).timestamp() * 1000))
