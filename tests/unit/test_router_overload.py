"""A vendor that has no room for work: no attempt of the task, and a mark that is like any other."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.events import ModelRestored
from schemas.vocabulary import from_millis
from tests.support.builders import START_MS, rulebook, task
from tests.support.router_rig import RouterRig, outcomes

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
UNTIL: dict[str, tuple[int | None, int]] = {
    "as the vendor says": (HOUR_MS, HOUR_MS),
    "a vendor that says nothing": (None, 60_000),
    "a time in the past": (-HOUR_MS, 60_000),
    "a time in years": (1_000 * DAY_MS, 7 * DAY_MS),
}


@pytest.mark.rule("amend.47")
@pytest.mark.parametrize(("retry_ms", "want_ms"), UNTIL.values(), ids=UNTIL)
def test_a_rate_limited_task_waits_until_the_vendor_has_room_and_loses_no_attempt(
    retry_ms: int | None, want_ms: int
) -> None:
    """At most seven days; a failure bound of one is not touched, nor is the task's age."""
    rig = RouterRig("haiku-1", book=rulebook(attempts={"failures_max": 1}))
    rig.hand_in(task("a", on_failure="escalate", at_ms=START_MS - 1_000))
    more: dict[str, Any] = {} if retry_ms is None else {"retry_at": from_millis(START_MS + retry_ms)}
    assert outcomes(rig.ends("a", "failure", error_class="rate_limited", **more)) == {"a": "exhausted"}
    status = rig.status("a")
    assert status is not None
    assert (status.attempt, status.failures, status.tier_min, status.since_ms) == (1, 0, 1, START_MS - 1_000)
    assert rig.router.due_ms() == START_MS + want_ms
    assert outcomes(rig.wait(want_ms / 1000)) == {"a": "haiku-1"}


@pytest.mark.rule("amend.47")
def test_the_mark_stands_in_the_journal_as_an_event_says_who_reported_it_and_can_be_ended() -> None:
    """`restore` ends it; a longer mark is not shortened by a later outcome."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a"), task("b"))
    retry_at = from_millis(START_MS + HOUR_MS)
    step = rig.ends("a", "failure", error_class="quota", retry_at=retry_at)
    (taken,) = step.controls
    event = json.loads(bytes(taken.event))
    assert (taken.kind, event["by"], event["product"]) == ("model.exhausted", "slot haiku-1: quota", "claude")
    assert (event["until"], event["pool"]) == (retry_at, "main")
    assert step.exhausted[0].until_ms == START_MS + HOUR_MS
    assert rig.ends("b", "failure", error_class="overloaded").controls == ()
    restored = ModelRestored(control_id="c-1", at=from_millis(START_MS), by="ops", product="claude")
    assert set(outcomes(rig.hand_in(restored)).values()) == {"haiku-1", "haiku-2"}


@pytest.mark.rule("amend.47")
def test_a_success_of_such_a_class_is_a_success() -> None:
    """The class says how a failure came about."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    assert rig.ends("a", error_class="rate_limited").controls == ()
    assert rig.status("a") is None


@pytest.mark.rule("amend.47")
def test_retries_back_off_by_default() -> None:
    """5, 10, 20, 40 seconds; never more than five minutes."""
    book = rulebook()
    assert [book.back_off_ms(failures) for failures in (1, 2, 3, 4, 7, 100)] == [
        5_000, 10_000, 20_000, 40_000, 300_000, 300_000,
    ]  # fmt: skip
    rig = RouterRig("haiku-1", book=book)
    rig.hand_in(task("a"))
    assert rig.ends("a", "failure").decisions == ()
    assert rig.router.due_ms() == START_MS + 5_000
