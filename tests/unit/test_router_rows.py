"""Rows of the journal, whole: what a task and a slot leave behind at each turn, and nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import HistoryEntry, LastReport, SlotRow, TaskStatus, Unreported
from schemas.events import TaskPending
from schemas.vocabulary import Millis, from_millis
from tests.support.builders import START_MS, cancelled, inputs, rulebook, slot, task
from tests.support.router_rig import RouterRig

NOW = Millis(START_MS)
DUE = Millis(START_MS + 1_000)
LEASE_MS = 1_800_000
ACCEPTED = HistoryEntry(NOW, 0, "accepted")


def test_a_task_that_may_be_served_at_once_has_no_due_moment() -> None:
    """A passed `not_before` does not delay; the task waits since its `at`, or since `not_before` if that is later."""
    rig = RouterRig()
    rig.hand_in(task("a", at_ms=START_MS - 9_000, not_before_ms=START_MS - 1_000))
    assert rig.status("a") == TaskStatus(
        state="waiting",
        attempt=1,
        since_ms=Millis(START_MS - 1_000),
        accepted_ms=NOW,
        headline="no_capable_model",
        history=(ACCEPTED, HistoryEntry(NOW, 0, "waits", "no_capable_model")),
    )


def test_a_task_is_delayed_until_its_not_before() -> None:
    """Its wait counts from its due time, even if the step comes later."""
    rig = RouterRig()
    (row,) = rig.hand_in(task("a", not_before_ms=DUE)).tasks
    assert row.status == TaskStatus(
        state="delayed", attempt=1, since_ms=DUE, accepted_ms=NOW, due_ms=DUE, history=(ACCEPTED,)
    )
    rig.wait(5)
    assert rig.status("a") == TaskStatus(
        state="waiting",
        attempt=1,
        since_ms=DUE,
        accepted_ms=DUE,
        headline="no_capable_model",
        history=(ACCEPTED, HistoryEntry(Millis(START_MS + 5_000), 1, "waits", "no_capable_model")),
    )


def test_the_next_attempt_is_delayed_only_where_the_policy_has_a_back_off() -> None:
    """The next attempt begins at once, or after the back-off."""
    for back_off_s, state, due_ms in ((0.0, "waiting", None), (30.0, "delayed", Millis(START_MS + 30_000))):
        rig = RouterRig("haiku-1", book=rulebook(attempts={"back_off_s": back_off_s}))
        rig.hand_in(task("a"))
        status = rig.ends("a", "failure").tasks_changed[-1].status
        if state == "waiting":
            assert (status.state, status.attempt, status.due_ms) == ("running", 2, None)
        else:
            assert (status.state, status.attempt, status.due_ms) == ("delayed", 2, due_ms)


def test_a_lost_slot_holds_nothing_but_knows_what_it_worked_on() -> None:
    """It has no task from the end of its lease on; what it may report late is remembered, without title and payload."""
    rig = RouterRig("haiku-1")
    routed = rig.hand_in(task("a", title="A long one")).decisions[0]
    assert routed.lease_expires_at_ms is not None
    rig.wait(3_600)
    assert rig.row("haiku-1") == SlotRow(
        slot_id="haiku-1",
        pool="main",
        model="haiku",
        state="lost",
        lease=1,
        since_ms=routed.lease_expires_at_ms,
        renewals_left=8,
        last_report=LastReport(Millis(START_MS), Millis(START_MS)),
        unreported=Unreported(
            decision_id=routed.decision_id,
            decided_ms=Millis(START_MS),
            model="haiku",
            task=TaskPending(task_id="a", pool="main", at=from_millis(START_MS)),
        ),
    )


def test_ended_deadlines_and_leases_are_not_due() -> None:
    """A deadline goes with its task, a lease with its end; the next one is what is left."""
    rig = RouterRig()
    rig.hand_in(task("a", deadline_ms=START_MS + 60_000), task("b", deadline_ms=START_MS + 90_000))
    rig.hand_in(cancelled("a"))
    assert rig.router.due_ms() == START_MS + 90_000
    rig.hand_in(slot("haiku-1"))
    assert rig.router.due_ms() == START_MS + LEASE_MS
    rig.ends("b", "failure")
    assert rig.router.due_ms() == START_MS + LEASE_MS
    rig.ends("b")
    assert rig.router.due_ms() is None


def test_an_announcement_that_says_less_takes_nothing_away() -> None:
    """The account stays until another one is said; a repeated one writes no row."""
    rig = RouterRig()
    (first,) = rig.hand_in(slot("haiku-1", account="acct-1")).slots
    assert rig.hand_in(slot("haiku-1")).slots == ()
    for after_ms, account, want in ((1, {}, "acct-1"), (2, {"account": "acct-2"}, "acct-2")):
        last = LastReport(Millis(START_MS + after_ms), Millis(START_MS))
        (row,) = rig.hand_in(slot("haiku-1", at_ms=START_MS + after_ms, **account)).slots
        assert row == replace(first, account=want, last_report=last)


def test_a_cancel_is_in_the_history_of_a_running_task() -> None:
    """The history names the operator once; a second cancel changes nothing."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    step = rig.hand_in(cancelled("a"), after_s=1)
    assert step.counts == {"cancelled_while_running": 1}
    status = rig.status("a")
    assert status is not None
    assert (status.state, status.cancelled) == ("running", True)
    assert status.history[-1] == HistoryEntry(Millis(START_MS + 1_000), step.seq, "cancelled", "ops")
    assert (rig.hand_in(cancelled("a")).tasks_changed, rig.status("a")) == ((), status)


def test_a_trace_stays_with_its_task() -> None:
    """From the record into the row and into every decision."""
    rig = RouterRig()
    (item,) = inputs(task("a"))
    step = rig.take([replace(item, traceparent="00-1-2-01", tracestate="x=1")])
    assert [(row.traceparent, row.tracestate) for row in step.tasks] == [("00-1-2-01", "x=1")]
    later = rig.hand_in(slot("haiku-1"))
    assert [(one.traceparent, one.tracestate) for one in (*step.decisions, *later.decisions)] == [
        ("00-1-2-01", "x=1")
    ] * 2
