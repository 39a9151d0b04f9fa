"""A slot that works on keeps its lease: renewals move its limit, are bounded, and take up what was lost meanwhile."""

from __future__ import annotations

import json

import pytest

from schemas.codec import read_event
from schemas.events import BudgetCredited
from schemas.input import Unreadable
from schemas.vocabulary import from_millis
from streams.core.router import Router
from streams.partition.outputs import output_records
from tests.support.builders import START_MS, cancelled, freed, retired, rulebook, slot, task, tick, working
from tests.support.router_rig import RouterRig, outcomes, picture

MAX = {None: 8, "trivial": 2, "simple": 5, "expert": 11}


def limit_ms(rig: RouterRig, slot_id: str = "haiku-1") -> int | None:
    """When the slot's lease ends, from the start."""
    row = rig.row(slot_id)
    assert row is not None
    return None if row.lease_expires_at_ms is None else row.lease_expires_at_ms - START_MS


@pytest.mark.rule("amend.29")
@pytest.mark.parametrize(("complexity", "want"), MAX.items(), ids=map(str, MAX))
def test_a_dispatcher_is_told_how_often_it_may_renew(complexity: str | None, want: int) -> None:
    """By class; so often the lease moves on, and no more."""
    rig = RouterRig("opus-1", book=rulebook(leases={"default_s": 60.0, "by_complexity_s": {}}))
    step = rig.hand_in(task("a", complexity=complexity))
    (record,) = [one.record for one in output_records(step, {})]
    assert json.loads(record.value)["lease_renewals_max"] == want
    for number in range(1, want + 1):
        rig.now_ms += 50_000
        assert rig.hand_in(working("opus-1", 1, at_ms=rig.now_ms)).counts == {"renewed_lease": 1}
        assert limit_ms(rig, "opus-1") == number * 50_000 + 60_000
        assert rig.router.due_ms() == START_MS + number * 50_000 + 60_000
    step = rig.hand_in(working("opus-1", 1, at_ms=rig.now_ms + 1))
    assert (step.counts, step.slots) == ({"excess_renewal": 1}, ())
    assert rig.wait(60).counts == {"lost_slot": 1}


@pytest.mark.rule("amend.29")
def test_a_long_task_is_done_once() -> None:
    """It runs for three leases; no other slot is given it, and its slot was busy throughout."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a", complexity="trivial"))
    name = str(rig.runs_on("a"))
    for _ in range(2):
        rig.hand_in(working(name, 1, at_ms=rig.now_ms + 290_000), after_s=290)
    row = rig.row(name)
    assert row is not None
    assert row.since_ms == START_MS
    step = rig.ends("a", after_s=290)
    assert [one.what for one in step.finished] == ["done"]
    assert len([one for one in rig.decisions("a") if one.outcome == "routed"]) == 1


@pytest.mark.rule("amend.29")
def test_a_renewal_moves_the_limit_within_its_step_and_over_a_restart() -> None:
    """The limit of before is due no more: neither in the same step, nor for a router made from a snapshot."""
    rig = RouterRig("haiku-1", book=rulebook(leases={"default_s": 60.0}))
    rig.hand_in(task("a"))
    renewal = working("haiku-1", 1, at_ms=START_MS + 50_000)
    assert rig.hand_in_timed([(50_000, renewal), (30_000, tick())]).counts == {"renewed_lease": 1}
    assert Router.restore(0, rig.book, picture(rig.router)).due_ms() == rig.router.due_ms() == START_MS + 110_000
    later = working("haiku-1", 1, at_ms=START_MS + 100_000)
    assert rig.hand_in_timed([(20_000, later), (60_000, tick())]).counts == {"renewed_lease": 1, "lost_slot": 1}


@pytest.mark.rule("amend.29")
def test_what_renews_nothing_is_counted_and_leaves_no_row() -> None:
    """Another lease, a renewal sent twice or out of order, a slot that is free or was never there."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a"))
    rig.hand_in(working("haiku-1", 1, at_ms=START_MS + 10_000), after_s=10)
    for event, word in (
        (working("haiku-1", 2, at_ms=START_MS + 11_000), "stale"),
        (working("haiku-1", 1, at_ms=START_MS + 10_000), "duplicate"),
        (working("haiku-1", 1, at_ms=START_MS + 9_000), "stale"),
        (working("haiku-2", 0, at_ms=START_MS + 11_000), "stale"),
        (working("haiku-9", 1, at_ms=START_MS + 11_000), "stale"),
    ):
        step = rig.hand_in(event, after_s=1)
        assert (step.counts, step.slots, step.rejected) == ({f"{word}_renewal": 1}, (), ())
    assert limit_ms(rig) == 10_000 + 1_800_000


@pytest.mark.rule("amend.29")
def test_a_lost_slot_that_works_on_takes_its_task_up_again() -> None:
    """Under the same lease and as the same attempt; when it ends, it ends the task, and what it cost is paid once."""
    rig = RouterRig("haiku-1")
    rig.hand_in(BudgetCredited(control_id="c", by="ops", at=rig.at, pool="main", tenant_id="acme", amount_usd=1.0))
    rig.hand_in(task("a", tenant_id="acme", output_tokens=1_000))
    rig.wait(1_800)
    step = rig.hand_in(working("haiku-1", 1, at_ms=rig.now_ms + 1_000), after_s=1)
    assert (step.counts, step.decisions) == ({"renewed_lease": 1, "taken_up": 1}, ())
    status = rig.status("a")
    assert status is not None
    assert (status.state, status.attempt, status.failures, status.slot_id, status.lease) == (
        "running", 1, 0, "haiku-1", 1,
    )  # fmt: skip
    assert status.history[-1].what == "taken up"
    assert rig.hand_in(task("b"), after_s=1).decisions[0].reason_code == "capable_busy"
    step = rig.hand_in(freed("haiku-1", 1, "a", outcome={"cost_usd": 0.25}), after_s=60)
    assert [one.what for one in step.finished] == ["done"]
    assert outcomes(step) == {"b": "haiku-1"}
    assert [(one.kind, one.amount_uusd) for one in step.money] == [("settle", 250_000)]
    (ledger,) = step.ledgers
    assert (ledger.available_uusd, ledger.reserved_uusd, ledger.consumed_uusd) == (750_000, 0, 250_000)


@pytest.mark.rule("amend.29")
@pytest.mark.parametrize("meanwhile", ["given away", "given away and failed", "cancelled", "announced itself"])
def test_a_lost_slot_takes_up_nothing_that_went_on_without_it(meanwhile: str) -> None:
    """Another slot has the task, it is over, or the slot has said that it has forgotten it."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.wait(1_800)
    if meanwhile.startswith("given away"):
        rig.hand_in(slot("haiku-2", at_ms=rig.now_ms + 60_000), after_s=60)
        assert rig.runs_on("a") == "haiku-2"
        if meanwhile.endswith("failed"):
            rig.hand_in(rig.end_of("a", "failure"), retired("haiku-2"))
    elif meanwhile == "cancelled":
        rig.hand_in(cancelled("a"))
    else:
        rig.hand_in(slot("haiku-1", at_ms=rig.now_ms + 1))
    before = rig.row("haiku-1")
    step = rig.hand_in(working("haiku-1", 1, at_ms=rig.now_ms + 70_000), after_s=1)
    assert (step.counts, step.slots) == ({"stale_renewal": 1}, ())
    assert rig.row("haiku-1") == before


@pytest.mark.rule("amend.29")
def test_a_task_that_was_taken_up_and_lost_again_is_still_paid_once() -> None:
    """Two losses of one lease: the second counts as the first failure, and the late end is that of the work."""
    rig = RouterRig("haiku-1")
    rig.hand_in(BudgetCredited(control_id="c", by="ops", at=rig.at, pool="main", tenant_id="acme", amount_usd=1.0))
    rig.hand_in(task("a", tenant_id="acme", output_tokens=1_000))
    rig.wait(1_800)
    rig.hand_in(working("haiku-1", 1, at_ms=rig.now_ms))
    assert rig.wait(1_800).money == ()
    status = rig.status("a")
    assert status is not None
    assert (status.attempt, status.failures) == (2, 1)
    step = rig.hand_in(freed("haiku-1", 1, "a", outcome={"cost_usd": 0.25}), after_s=1)
    assert [one.what for one in step.finished] == ["done"]
    assert [(one.kind, one.amount_uusd) for one in step.money] == [("settle", 250_000)]


def test_a_retired_slot_may_renew_until_its_work_is_done() -> None:
    """It finishes what it holds."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(retired("haiku-1"))
    step = rig.hand_in(working("haiku-1", 1, at_ms=rig.now_ms + 60_000), after_s=60)
    assert [(row.retired, row.state) for row in step.slots] == [(True, "leased")]
    rig.ends("a", after_s=1_790)
    assert rig.row("haiku-1") is None


def test_a_shorter_lease_of_another_policy_takes_nothing_that_was_granted() -> None:
    """The limit never moves back."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.router.rulebook = rulebook(leases={"default_s": 1.0})
    rig.follower.rulebook = rig.router.rulebook
    rig.strict = False
    rig.hand_in(working("haiku-1", 1, at_ms=START_MS + 1), after_s=10)
    assert limit_ms(rig) == 1_800_000


STATES = {
    "working without a lease": ({"state": "working"}, "field lease: missing; a slot that is `working` names the lease"),
    "working with an outcome": (
        {"state": "working", "lease": 1, "outcome": {"task_id": "a", "status": "success"}},
        "field outcome: a slot that is `working` has none",
    ),
    "idle with a lease": ({"state": "idle", "lease": 1}, "field lease: a slot that is `idle` has none"),
    "idle with an outcome": (
        {"state": "idle", "outcome": {"task_id": "a", "status": "success"}},
        "field outcome: a slot that is `idle` has none",
    ),
    "another word": ({"state": "busy"}, "field state: "),
    "working": ({"state": "working", "lease": 1}, None),
    "idle": ({"state": "idle"}, None),
    "free": ({"state": "free", "lease": 1, "outcome": {"task_id": "a", "status": "success"}}, None),
}


@pytest.mark.rule("amend.29")
@pytest.mark.parametrize(("fields", "reason"), STATES.values(), ids=STATES.keys())
def test_a_report_that_contradicts_itself_is_refused_on_arrival(fields: dict[str, object], reason: str | None) -> None:
    """With a sentence for its sender."""
    said = {"slot_id": "s-1", "pool": "main", "at": from_millis(START_MS), **fields}
    event = read_event("slot.freed", b"main", json.dumps(said).encode(), ())
    assert isinstance(event, Unreadable) is (reason is not None)
    if isinstance(event, Unreadable):
        assert event.reason.startswith(str(reason))


@pytest.mark.rule("amend.29", "amend.30")
def test_a_slot_that_says_it_is_idle_while_a_task_is_on_its_way_keeps_that_task() -> None:
    """It was sent before the dispatcher had read of the task; it is no restart."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"), after_s=1)
    idle = read_event(
        "slot.freed",
        b"main",
        json.dumps({"slot_id": "haiku-1", "pool": "main", "at": from_millis(rig.now_ms), "state": "idle"}).encode(),
        (),
    )
    assert rig.hand_in(idle, after_s=1).counts == {"stale_free": 1}
    assert rig.runs_on("a") == "haiku-1"


@pytest.mark.rule("amend.29")
def test_what_was_taken_up_and_failed_in_one_step_waits_from_then_on() -> None:
    """It waited before as well, as the same attempt; its place in the queue is that of its new wait."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.wait(1_800)
    # As much priority as `a`, and less age.
    rig.hand_in(task("b", at_ms=rig.now_ms + 1_500_000), after_s=1_500)
    ended = freed("haiku-1", 1, "a", "failure", at_ms=rig.now_ms + 1_000)
    rig.hand_in(working("haiku-1", 1, at_ms=rig.now_ms + 1_000), retired("haiku-1"), ended, after_s=1)
    status = rig.status("a")
    assert status is not None
    assert (status.state, status.since_ms, rig.row("haiku-1")) == ("waiting", rig.now_ms, None)
    assert outcomes(rig.hand_in(slot("haiku-2", at_ms=rig.now_ms + 60_000), after_s=60)) == {
        "b": "haiku-2",
        "a": "capable_busy",
    }
