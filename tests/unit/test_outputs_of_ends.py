"""What is published of an end and of work that must stop: once each, with all that the step says of it."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from schemas.decision import Step
from schemas.vocabulary import FinishStatus, StopReason, from_millis
from streams.core.step.draft import EndOutcome
from streams.partition.outputs import output_records
from tests.support.builders import START_MS, cancelled, freed, retired, rulebook, slot, task, working
from tests.support.router_rig import RouterRig

NO_PAUSE = {"back_off_s": 0.0, "failures_max": 1}


def said(topic: str, *steps: Step) -> list[dict[str, Any]]:
    """The values of a topic."""
    return [json.loads(one.record.value) for step in steps for one in output_records(step, {}) if one.topic == topic]


def ids(*steps: Step) -> list[str]:
    """The id of every event, by topic."""
    return [
        f"{one.topic} {dict(one.record.headers)['ce_id'].decode()}"
        for step in steps
        for one in output_records(step, {})
        if not one.topic.endswith(".dlq")
    ]


def finished(status: str) -> tuple[Step, Step]:
    """The step that routed the task `a`, and the one in which it ends so."""
    rig = RouterRig("haiku-1", book=rulebook(attempts=NO_PAUSE))
    if status in {"expired", "cancelled"}:
        rig.hand_in(task("before"))
    on_failure = "drop" if status == "dropped" else "retry"
    deadline_ms = START_MS + (5_000 if status == "expired" else 9_000)
    routed = rig.hand_in(task("a", deadline_ms=deadline_ms, on_failure=on_failure))
    if status == "cancelled":
        return routed, rig.hand_in(cancelled("a"), after_s=5)
    if status == "expired":
        return routed, rig.wait(5)
    outcome = {"cost_usd": 0.25, "latency_s": 4.5, "quality": 0.75}
    return routed, rig.ends("a", "success" if status == "success" else "failure", after_s=5, **outcome)


@pytest.mark.rule("wire.ended")
@pytest.mark.parametrize("status", ["success", *get_args(EndOutcome)])
def test_every_status_says_what_the_work_was(status: str) -> None:
    """A task that ran names its decision, slot, cost and quality; one that waited the decision of its end."""
    routed, step = finished(status)
    (one,) = said("task.finished", step)
    ran = status not in {"cancelled", "expired"}
    (by,) = [one for one in (routed if ran else step).decisions if one.task_id == "a"]
    work = {"slot_id": "haiku-1", "model": "haiku", "cost_usd": 0.25, "latency_s": 4.5, "quality": 0.75}
    reasons = {
        "cancelled": "Cancelled by ops.",
        "expired": f"Its deadline {from_millis(START_MS + 5_000)} passed before a slot was free.",
        "dropped": "Reported as failed, and on_failure is drop: no error class given.",
        "dead_lettered": "Given up after 1 failed attempt, the last: failed; see task.pending.dlq.",
    }
    assert one == {
        "task_id": "a",
        "pool": "main",
        "status": status,
        "attempts": int(ran),
        "decision_id": by.decision_id,
        "at": from_millis(START_MS + 5_000),
        **(work if ran else {}),
        **({"reason": reasons[status]} if status in reasons else {}),
    }
    assert set(get_args(FinishStatus)) == {"success", "failure", *get_args(EndOutcome)}


@pytest.mark.rule("wire.ended")
@pytest.mark.parametrize("late", [False, True])
def test_a_slot_that_ends_its_task_is_named_in_time_and_late(late: bool) -> None:
    """Freed without an outcome is success; a slot may report that the work was cancelled."""
    for outcome, status, reason in (
        (None, "success", None),
        ("cancelled", "cancelled", "haiku-1 reported that the work was cancelled."),
    ):
        rig = RouterRig("haiku-1")
        (routed,) = rig.hand_in(task("a")).decisions
        if late:
            assert said("task.finished", rig.wait(1_800)) == []
        step = rig.hand_in(freed("haiku-1", 1, "a" if outcome else None, outcome or "success"), after_s=1)
        (one,) = said("task.finished", step)
        assert (one["status"], one.get("reason"), one["attempts"]) == (status, reason, 1)
        assert (one["decision_id"], one["slot_id"], one["model"]) == (routed.decision_id, "haiku-1", "haiku")


@pytest.mark.rule("wire.ended")
def test_a_cancelled_task_that_ran_says_who_cancelled_it_and_what_it_cost() -> None:
    """Its slot may have reported success meanwhile."""
    rig = RouterRig("haiku-1")
    (routed,) = rig.hand_in(task("a")).decisions
    assert said("task.finished", rig.hand_in(cancelled("a"))) == []
    (one,) = said("task.finished", rig.ends("a", cost_usd=0.5))
    assert (one["status"], one["reason"], one["cost_usd"]) == ("cancelled", "Cancelled by ops while it ran.", 0.5)
    assert one["decision_id"] == routed.decision_id


@pytest.mark.rule("wire.ended")
def test_a_cancelled_task_whose_lease_is_lost_is_over_and_its_slot_must_stop_again() -> None:
    """Each of the two is an event of its own."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    steps = [rig.hand_in(cancelled("a")), rig.wait(1_800)]
    assert [one["reason_code"] for one in said("task.cancelled", *steps)] == ["cancelled", "lease_lost"]
    (one,) = said("task.finished", *steps)
    assert (one["status"], one["slot_id"], "cost_usd" in one) == ("cancelled", "haiku-1", False)


def stopped(code: str) -> tuple[Step, Step]:
    """The step that routed the task `a`, and the one in which it must stop for this reason."""
    rig = RouterRig("haiku-1")
    routed = rig.hand_in(task("a"))
    if code == "cancelled":
        return routed, rig.hand_in(cancelled("a"), after_s=1)
    if code == "slot_retired":
        assert said("task.cancelled", rig.hand_in(retired("haiku-1"))) == [], "it finishes what it runs"
    return routed, rig.wait(1_800)


@pytest.mark.rule("wire.ended")
@pytest.mark.parametrize("code", get_args(StopReason))
def test_every_reason_names_decision_slot_and_lease(code: str) -> None:
    """A dispatcher compares the lease with what it runs."""
    routed, step = stopped(code)
    (by,) = routed.decisions
    assert said("task.cancelled", step) == [
        {
            "decision_id": by.decision_id,
            "task_id": "a",
            "pool": "main",
            "slot_id": "haiku-1",
            "lease": 1,
            "reason_code": code,
            "at": from_millis(START_MS + (1_000 if code == "cancelled" else 1_800_000)),
        }
    ]


@pytest.mark.rule("wire.ended")
def test_a_slot_that_lost_its_lease_must_stop_even_if_it_has_other_work_in_the_same_step() -> None:
    """The row of the slot says nothing of the lease before any more."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    step = rig.hand_in(slot(at_ms=START_MS + 1_000), after_s=1)
    assert [(one["lease"], one["reason_code"]) for one in said("task.cancelled", step)] == [(1, "lease_lost")]
    assert rig.runs_on("a") == "haiku-1"


@pytest.mark.rule("wire.ended")
def test_a_retired_slot_that_announces_itself_is_not_gone() -> None:
    """It lost its lease, and gets work again."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(retired("haiku-1"))
    step = rig.hand_in(slot(at_ms=START_MS + 1_000), after_s=1)
    assert [one["reason_code"] for one in said("task.cancelled", step)] == ["lease_lost"]


@pytest.mark.rule("wire.ended")
def test_a_task_that_is_cancelled_after_its_lease_was_lost_names_the_decision_of_its_end() -> None:
    """Not that of the work, which ended nothing."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.wait(1_800)
    step = rig.hand_in(cancelled("a"))
    (end,) = step.decisions
    (one,) = said("task.finished", step)
    assert (one["decision_id"], "slot_id" in one, one["attempts"]) == (end.decision_id, False, 1)


@pytest.mark.rule("wire.ended")
def test_no_two_events_have_one_id() -> None:
    """A lease that is lost, taken up and lost again; a task that ends twice, in two lives."""
    rig = RouterRig("haiku-1", book=rulebook(attempts={"back_off_s": 0.0}, leases={"default_s": 60.0}))
    rig.hand_in(task("a"))
    rig.wait(60)
    rig.hand_in(working("haiku-1", 1, at_ms=START_MS + 61_000), after_s=1)
    rig.wait(60)
    rig.hand_in(cancelled("a"))
    rig.hand_in(task("a", at_ms=rig.now_ms + 1_000), after_s=1)
    rig.hand_in(cancelled("a"))
    assert len(said("task.cancelled", *rig.steps)) == 2
    assert len(said("task.finished", *rig.steps)) == 2
    every = ids(*rig.steps)
    assert len(set(every)) == len(every)


@pytest.mark.rule("wire.ended")
def test_the_trace_of_a_task_reaches_its_end() -> None:
    """Whatever ended it."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    (ended,) = rig.ends("a").ended
    published = Step(
        partition=0, seq=0, now_ms=ended.at_ms, policy="p", catalog="c", ended=(replace(ended, traceparent=trace),)
    )
    (one,) = output_records(published, {})
    assert dict(one.record.headers)["traceparent"].decode() == trace
