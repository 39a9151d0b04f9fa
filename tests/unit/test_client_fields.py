"""Keyword arguments of the client are the fields of the events, no more and no less."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from schemas.events import Outcome, TaskPending
from schemas.vocabulary import SLOT_FREED, TASK_PENDING, Millis
from streams.client.fields import NotAccepted, OutcomeFields, TaskFields, outcome_of, record_of, task_pending
from tests.support.builders import START_MS, freed

NOON = "2026-11-21T12:00:00.000Z"


def event(**fields: Any) -> TaskPending:
    """The event of a task with these fields."""
    return task_pending("main", "t-1", START_MS, fields)  # type: ignore[arg-type]


def test_a_task_may_have_every_field_of_its_event() -> None:
    """A new field of the contract is a new argument; what a program does not give is as the contract has it."""
    assert set(TaskFields.__annotations__) | {"task_id", "pool", "at"} == set(TaskPending.__struct_fields__)
    assert event() == TaskPending(task_id="t-1", pool="main", at="2026-11-21T10:00:00.000Z")


def test_an_outcome_may_have_every_field_but_those_that_the_call_itself_has() -> None:
    """`succeed` and `fail` say the status, `fail` the class of the error."""
    own = {"task_id", "status", "error_class"}
    assert set(OutcomeFields.__annotations__) | own == set(Outcome.__struct_fields__)


def test_a_closed_list_of_the_contract_is_one_of_the_arguments() -> None:
    """A type checker knows the words."""
    hints = get_type_hints(TaskFields)
    for name in ("complexity", "strategy", "objective", "profile", "on_failure", "max_tier"):
        words = get_args(next((one for one in get_args(hints[name]) if get_args(one)), hints[name]))
        of_the_event = msgspec.json.schema(TaskPending)["$defs"]["TaskPending"]["properties"][name]
        assert set(words) == set(of_the_event.get("enum") or of_the_event["anyOf"][0]["enum"])


def test_times_may_be_datetimes_of_any_zone() -> None:
    """One without a zone means nothing elsewhere."""
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    assert event(deadline=noon, not_before=noon.astimezone(timezone(timedelta(hours=5)))).deadline == NOON
    assert event(not_before=noon.astimezone(timezone(timedelta(hours=5)))).not_before == NOON
    assert event(deadline="2026-11-21T12:00:00Z").deadline == "2026-11-21T12:00:00Z"
    with pytest.raises(NotAccepted, match="has no zone"):
        event(deadline=noon.replace(tzinfo=None))
    assert outcome_of("t-1", "failure", "rate_limited", {"retry_at": noon}).retry_at == NOON


@pytest.mark.parametrize("payload", [0, False, "", [], {}, {"a": [1, 2.5, None, "é"]}])
def test_any_value_that_json_has_is_a_payload(payload: Any) -> None:
    """Also an empty one; None is none."""
    text = event(payload=payload).payload
    assert text is not None
    assert msgspec.json.decode(text) == payload
    assert event(payload=None).payload is None


@pytest.mark.parametrize("payload", [object(), {1, object()}, {"a": 1j}])
def test_what_json_does_not_have_is_refused(payload: Any) -> None:
    """With the name of the field."""
    with pytest.raises(NotAccepted, match="field payload"):
        event(payload=payload)


def test_an_unknown_field_is_a_mistake_of_the_program() -> None:
    """As with any function."""
    with pytest.raises(TypeError, match="titel"):
        event(titel="Fix typo")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"priority": 101}, "field priority"),
        ({"title": 5}, "field title"),
        ({"requires": {"cooking": 4}}, "cooking"),
        ({"deadline": "tomorrow"}, "field deadline"),
        ({"ev": float("nan")}, "field ev: nan is no finite number"),
        ({"payload": {"a": [1.0, float("inf")]}}, r"field payload\.a: inf is no finite number"),
        ({"labels": {"a": object()}}, "no event can be written"),
    ],
)
def test_what_the_router_would_refuse_is_refused_before(fields: dict[str, Any], said: str) -> None:
    """By the same codec, so with the sentence of the dead letter; JSON has no number for what is not finite."""
    with pytest.raises(NotAccepted, match=said):
        record_of(TASK_PENDING, event(**fields), "1", START_MS)


def test_a_report_is_a_record_like_that_of_any_client() -> None:
    """Keyed by its pool, with the headers of CloudEvents."""
    record = record_of(SLOT_FREED, freed("haiku-1", 1, "t-1"), "1", Millis(START_MS))
    assert record.key == b"main"
    assert dict(record.headers)["ce_type"] == b"slotwise.slot.freed.v1"
