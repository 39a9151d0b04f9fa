"""Rows of the journal, whole: what a task and a slot leave behind at each turn, and nothing else."""

from __future__ import annotations

from msgspec.structs import replace

from schemas.decision import Moment, SlotRow, Standing
from schemas.vocabulary import Millis
from tests.support.builders import START_MS, cancelled, inputs, rulebook, slot, task
from tests.support.desk import Desk

NOW = Millis(START_MS)
DUE = Millis(START_MS + 1_000)
LEASE_MS = 1_800_000
ACCEPTED = Moment(NOW, 0, "accepted")


def test_a_task_that_may_be_served_at_once_has_no_due_moment() -> None:
    """Whatever it was held back for is over; it has waited since its own `at`, or since then."""
    desk = Desk()
    desk.hand_in(task("a", at_ms=START_MS - 9_000, not_before_ms=START_MS - 1_000))
    assert desk.standing("a") == Standing(
        state="waiting",
        attempt=1,
        since_ms=Millis(START_MS - 1_000),
        accepted_ms=NOW,
        headline="no_capable_model",
        story=(ACCEPTED, Moment(NOW, 0, "waits", "no_capable_model")),
    )


def test_a_task_held_back_stands_there_until_its_moment() -> None:
    """And waits from then on, as if it had come then, whenever somebody notices."""
    desk = Desk()
    (row,) = desk.hand_in(task("a", not_before_ms=DUE)).tasks
    assert row.standing == Standing(
        state="held", attempt=1, since_ms=DUE, accepted_ms=NOW, due_ms=DUE, story=(ACCEPTED,)
    )
    desk.wait(5)
    assert desk.standing("a") == Standing(
        state="waiting",
        attempt=1,
        since_ms=DUE,
        accepted_ms=DUE,
        headline="no_capable_model",
        story=(ACCEPTED, Moment(Millis(START_MS + 5_000), 1, "waits", "no_capable_model")),
    )


def test_the_next_attempt_is_held_back_only_where_the_policy_pauses() -> None:
    """It begins now, or after the pause."""
    for back_off_s, state, due_ms in ((0.0, "waiting", None), (30.0, "held", Millis(START_MS + 30_000))):
        desk = Desk("haiku-1", book=rulebook(attempts={"back_off_s": back_off_s}))
        desk.hand_in(task("a"))
        standing = desk.ends("a", "failure").moved[-1].standing
        if state == "waiting":
            assert (standing.state, standing.attempt, standing.due_ms) == ("running", 2, None)
        else:
            assert (standing.state, standing.attempt, standing.due_ms) == ("held", 2, due_ms)


def test_a_lost_slot_holds_nothing() -> None:
    """From the moment at which its lease ran out."""
    desk = Desk("haiku-1")
    routed = desk.hand_in(task("a")).decisions[0]
    assert routed.lease_expires_at_ms is not None
    desk.wait(3_600)
    assert desk.row("haiku-1") == SlotRow(
        slot_id="haiku-1", pool="main", model="haiku", state="lost", lease=1, since_ms=routed.lease_expires_at_ms
    )


def test_nobody_is_woken_for_what_is_over() -> None:
    """A deadline goes with its task, a lease with its end; the next one is what is left."""
    desk = Desk()
    desk.hand_in(task("a", deadline_ms=START_MS + 60_000), task("b", deadline_ms=START_MS + 90_000))
    desk.hand_in(cancelled("a"))
    assert desk.router.due_ms() == START_MS + 90_000
    desk.hand_in(slot("haiku-1"))
    assert desk.router.due_ms() == START_MS + LEASE_MS
    desk.ends("b", "failure")
    assert desk.router.due_ms() == START_MS + LEASE_MS
    desk.ends("b")
    assert desk.router.due_ms() is None


def test_an_announcement_that_says_less_takes_nothing_away() -> None:
    """The account stays until another one is said, and there is no row where nothing has changed."""
    desk = Desk()
    (first,) = desk.hand_in(slot("haiku-1", account="acct-1")).slots
    assert desk.hand_in(slot("haiku-1")).slots == ()
    assert desk.hand_in(slot("haiku-1", account="acct-1")).slots == ()
    assert desk.hand_in(slot("haiku-1", account="acct-2")).slots == (replace(first, account="acct-2"),)


def test_a_cancel_stands_in_the_story_of_what_runs() -> None:
    """By whom, and once; a second one changes nothing."""
    desk = Desk("haiku-1")
    desk.hand_in(task("a"))
    step = desk.hand_in(cancelled("a"), after_s=1)
    assert step.counts == {"cancelled_while_running": 1}
    standing = desk.standing("a")
    assert standing is not None
    assert (standing.state, standing.cancelled) == ("running", True)
    assert standing.story[-1] == Moment(Millis(START_MS + 1_000), step.seq, "cancelled", "ops")
    assert (desk.hand_in(cancelled("a")).moved, desk.standing("a")) == ((), standing)


def test_a_trace_stays_with_its_task() -> None:
    """From the record into the row and into every decision."""
    desk = Desk()
    (item,) = inputs(task("a"))
    step = desk.take([replace(item, traceparent="00-1-2-01", tracestate="x=1")])
    assert [(row.traceparent, row.tracestate) for row in step.tasks] == [("00-1-2-01", "x=1")]
    later = desk.hand_in(slot("haiku-1"))
    assert [(one.traceparent, one.tracestate) for one in (*step.decisions, *later.decisions)] == [
        ("00-1-2-01", "x=1")
    ] * 2
