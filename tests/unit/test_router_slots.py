"""Slots come, hold, are lost, and go; a lease number only grows, and what carries an old one changes nothing."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from msgspec.structs import replace

from schemas.event_id import EventId
from schemas.events import SlotFreed, SlotRetired
from schemas.steps import encode_step
from schemas.vocabulary import Millis, from_millis
from tests.support.builders import START_MS, freed, inputs, retired, slot, task
from tests.support.builders import step as written
from tests.support.router_rig import RouterRig, at, outcomes


def bare(lease: int | None = None, at_ms: int = START_MS) -> SlotFreed:
    """Give an event of `haiku-1` that does not say its model."""
    return SlotFreed(slot_id="haiku-1", pool="main", at=from_millis(at_ms), lease=lease)


class Unseen(NamedTuple):
    """An event of a slot that the router has never seen."""

    event: SlotFreed
    want_rejected: str = ""
    want_stale: int = 0


UNSEEN = {
    "with a model": Unseen(slot()),
    "with a model and a lease": Unseen(freed("haiku-1", 7, model="haiku"), want_stale=1),
    "with a model, a lease and an outcome": Unseen(freed("haiku-1", 7, "t-1", model="haiku"), want_stale=1),
    "without a model": Unseen(bare(), "slot haiku-1 is not known yet, so its model must be said."),
    "without a model, with a lease": Unseen(bare(lease=1), "slot haiku-1 is not known yet", 1),
    "of a model that is not in the catalogue": Unseen(
        slot("x-1", "sonet"), "model sonet is not in the catalogue. Did you mean sonnet?"
    ),
}


@pytest.mark.rule("slot.register", "wire.unknown_model")
@pytest.mark.parametrize("case", UNSEEN.values(), ids=UNSEEN.keys())
def test_an_unseen_slot_is_registered_if_it_names_its_model(case: Unseen) -> None:
    """Without a model its event is refused with a reason."""
    rig = RouterRig()
    step = rig.hand_in(case.event)
    assert len(step.rejected) == bool(case.want_rejected)
    assert all(one.reason.startswith(case.want_rejected) for one in step.rejected)
    assert rig.count("stale_free") == case.want_stale
    row = rig.row("haiku-1")
    assert (row is not None and (row.state, row.lease) == ("free", 0)) is not bool(case.want_rejected)


class Leased(NamedTuple):
    """An event of a slot that holds its second lease since START + 10 s; its last report was of START + 7 s."""

    event: SlotFreed
    want_task: str
    want_count: str | None = None


LEASED = {
    "its lease": Leased(freed("haiku-1", 2, "b"), "done"),
    "its lease without an outcome": Leased(freed("haiku-1", 2), "done"),
    "its lease and another task's outcome": Leased(freed("haiku-1", 2, "a", "failure"), "done", "foreign_outcome"),
    "an older lease": Leased(freed("haiku-1", 1, "a"), "running", "stale_free"),
    "an older lease that names the task": Leased(freed("haiku-1", 1, "b", "failure"), "running", "stale_free"),
    "a future lease": Leased(freed("haiku-1", 3, "b"), "running", "stale_free"),
    "its first announcement once more": Leased(slot(), "running", "stale_free"),
    "an announcement from before its last report": Leased(slot(at_ms=START_MS + 6_999), "running", "stale_free"),
    "an announcement of the moment of its last report": Leased(
        slot(at_ms=START_MS + 7_000), "running", "duplicate_free"
    ),
    "an announcement by a clock behind the lease": Leased(slot(at_ms=START_MS + 7_001), "again"),
    "an announcement from after the lease began": Leased(slot(at_ms=START_MS + 10_001), "again"),
    "an announcement by a clock that is ahead": Leased(slot(at_ms=START_MS + 3_600_000), "again"),
    "an announcement that does not say its model": Leased(bare(at_ms=START_MS + 10_001), "again"),
    "a lease number of 0": Leased(freed("haiku-1", 0), "running", "stale_free"),
}


@pytest.mark.rule("slot.freed", "slot.stale", "slot.restart", "detail.22", "amend.30")
@pytest.mark.parametrize("case", LEASED.values(), ids=LEASED.keys())
def test_the_lease_decides_what_an_event_of_a_leased_slot_means(case: Leased) -> None:
    """An event of another lease is counted, writes no row and changes nothing."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(at(rig.end_of("a"), START_MS + 7_000), after_s=10)
    rig.hand_in(task("b"))
    step = rig.hand_in(case.event, after_s=10)
    status = rig.status("b")
    if case.want_task == "done":
        assert status is None
    else:
        assert status is not None
        assert (status.state, status.attempt) == ("running", 1 if case.want_task == "running" else 2)
    assert rig.count("duplicate_free") + rig.count("stale_free") + rig.count("foreign_outcome") == bool(case.want_count)
    if case.want_count is not None:
        assert step.counts == {case.want_count: 1}
    if case.want_task == "running":
        assert (step.slots, step.tasks_changed, step.decisions, step.work) == ((), (), (), ())


@pytest.mark.rule("slot.freed")
def test_a_foreign_outcome_is_no_work_done() -> None:
    """The lease ends, the outcome of the other task is dropped."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    step = rig.hand_in(freed("haiku-1", 1, "other"))
    assert step.work == ()
    assert [one.what for one in step.finished] == ["done"]


def test_an_outcome_is_kept_with_the_decision_that_it_belongs_to() -> None:
    """What the work cost is joined by the decision's id."""
    rig = RouterRig("haiku-1")
    routed = rig.hand_in(task("a")).decisions[0]
    (done,) = rig.ends("a", cost_usd=0.25, quality=0.9).work
    assert (done.decision_id, done.lease, done.model) == (routed.decision_id, 1, "haiku")
    assert (done.outcome.cost_usd, done.outcome.quality) == (0.25, 0.9)


@pytest.mark.rule("slot.stale")
def test_what_comes_twice_counts_once() -> None:
    """A redelivered end is stale, a redelivered announcement a duplicate."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    end = rig.end_of("a")
    rig.hand_in(end, end)
    assert rig.count("stale_free") == 1
    step = rig.hand_in(slot(), slot())
    assert step.counts == {"duplicate_free": 2}
    assert step.slots == ()


def test_an_announcement_may_name_another_account() -> None:
    """It is a duplicate otherwise."""
    rig = RouterRig("haiku-1")
    rig.hand_in(slot(account="acc-2", at_ms=START_MS + 1))
    row = rig.row("haiku-1")
    assert row is not None
    assert (row.account, row.state, row.lease) == ("acc-2", "free", 0)


@pytest.mark.rule("slot.restart")
def test_a_restarted_slot_gives_its_task_back_and_may_get_it_again() -> None:
    """The old lease ends in the same step in which the next begins; its late end is stale."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    old = rig.end_of("a")
    step = rig.hand_in(slot(at_ms=START_MS + 5_000), after_s=5)
    assert outcomes(step) == {"a": "haiku-1"}
    assert (step.decisions[0].attempt, step.decisions[0].lease) == (2, 2)
    assert rig.hand_in(old).counts == {"stale_free": 1}
    assert rig.runs_on("a") == "haiku-1"


@pytest.mark.rule("amend.30")
@pytest.mark.parametrize("ahead_ms", [0, 60, 30_000, 3_600_000])
def test_an_announcement_sent_twice_does_not_give_the_running_task_away_a_second_time(ahead_ms: int) -> None:
    """By a producer that is not idempotent, whose clock is ahead: the very same record, at once and much later."""
    rig = RouterRig()
    announcement = slot(at_ms=START_MS + ahead_ms)
    rig.hand_in(announcement)
    rig.hand_in(task("a"), after_s=0.006)
    for after_s in (0.3, 30, 30):
        assert rig.hand_in(announcement, after_s=after_s).counts == {"duplicate_free": 1}
    row = rig.row("haiku-1")
    assert row is not None
    assert (row.state, row.task_id, row.lease) == ("leased", "a", 1)


@pytest.mark.rule("amend.30")
def test_an_event_with_the_identity_of_the_last_one_is_the_last_one() -> None:
    """The same ce_source and ce_id, whatever its `at`; the id alone, of another sender, means nothing."""
    rig = RouterRig()

    def reported(event: SlotFreed, source: str) -> dict[str, int]:
        (item,) = inputs(event, now_ms=rig.now_ms, offset=len(rig.batches))
        return rig.take([replace(item, event_id=EventId(source, "1"))]).counts

    reported(slot(), "/one")
    rig.hand_in(task("a"), after_s=1)
    assert reported(slot(at_ms=START_MS + 5_000), "/one") == {"duplicate_free": 1}
    assert rig.runs_on("a") == "haiku-1"
    reported(slot(at_ms=START_MS + 5_000), "/two")
    status = rig.status("a")
    assert status is not None
    assert status.attempt == 2


@pytest.mark.rule("amend.30")
def test_a_lease_of_a_version_that_remembered_no_report_ends_as_it_did_then() -> None:
    """By an announcement that is younger than the lease."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"), after_s=10)
    row = rig.row("haiku-1")
    assert row is not None
    old = written(rig.router.seq, slots=(replace(row, last_report=None),), now_ms=Millis(rig.now_ms), inputs=())
    for router in (rig.router, rig.follower):
        router.apply(old)
    rig.audit.add(encode_step(old))
    assert rig.hand_in(slot(at_ms=START_MS + 10_000)).counts == {"duplicate_free": 1}
    assert rig.hand_in(slot(at_ms=START_MS + 9_999), after_s=1).counts == {"stale_free": 1}
    rig.hand_in(slot(at_ms=START_MS + 10_001))
    status = rig.status("a")
    assert status is not None
    assert status.attempt == 2


LEASES = {None: 1_800, "trivial": 300, "simple": 600}


@pytest.mark.rule("slot.lost")
@pytest.mark.parametrize(("complexity", "want_s"), LEASES.items(), ids=map(str, LEASES))
def test_a_slot_is_lost_when_its_lease_runs_out(complexity: str | None, want_s: int) -> None:
    """Not a millisecond earlier; its task is pending again."""
    rig = RouterRig("haiku-1")
    routed = rig.hand_in(task("a", complexity=complexity)).decisions[0]
    assert routed.lease_expires_at_ms == START_MS + want_s * 1000
    assert rig.router.due_ms() == START_MS + want_s * 1000
    rig.wait(want_s - 0.001)
    assert rig.runs_on("a") == "haiku-1"
    step = rig.wait(0.001)
    assert outcomes(step) == {"a": "lost"}
    assert step.decisions[0].attempt == 2
    row = rig.row("haiku-1")
    assert row is not None
    assert (row.state, row.task_id, row.since_ms) == ("lost", None, rig.now_ms)
    assert rig.count("lost_slot") == 1


@pytest.mark.rule("slot.lost")
def test_a_lost_slot_comes_back_by_announcing_itself() -> None:
    """Not by its first announcement once more; then it may get the task again, and its late end is stale."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    late = rig.end_of("a")
    rig.wait(1_800)
    assert rig.hand_in(slot()).counts == {"duplicate_free": 1}
    assert rig.headline("a") == "lost"
    step = rig.hand_in(slot(at_ms=rig.now_ms))
    assert outcomes(step) == {"a": "haiku-1"}
    assert step.decisions[0].lease == 2
    assert rig.hand_in(late).counts == {"stale_free": 1}


@pytest.mark.rule("slot.lease")
def test_lease_numbers_go_up_by_one() -> None:
    """Each slot counts for itself."""
    rig = RouterRig("haiku-1", "haiku-2")
    for i in range(4):
        rig.hand_in(task(f"t-{i}"))
        rig.ends(f"t-{i}", after_s=30)
    leases = [(one.chosen_slot_id, one.lease) for one in rig.decisions()]
    assert leases == [("haiku-1", 1), ("haiku-2", 1), ("haiku-1", 2), ("haiku-2", 2)]


def test_a_free_slot_that_retires_is_gone() -> None:
    """A task waits, though nothing runs."""
    rig = RouterRig("haiku-1")
    rig.hand_in(retired("haiku-1"))
    assert rig.row("haiku-1") is None
    assert outcomes(rig.hand_in(task())) == {"t-1": "no_capable_model"}


@pytest.mark.rule("slot.retired")
def test_a_leased_slot_that_retires_finishes_what_it_holds() -> None:
    """It gets nothing new, and goes with its end, which counts."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(task("b"), retired("haiku-1"))
    assert rig.runs_on("a") == "haiku-1"
    assert rig.headline("b") == "no_capable_model"
    step = rig.ends("a")
    assert [one.what for one in step.finished] == ["done"]
    assert len(step.work) == 1
    assert rig.row("haiku-1") is None
    assert rig.headline("b") == "no_capable_model"


def test_a_retired_slot_whose_task_fails_gives_it_to_others() -> None:
    """It does not take it again."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"), slot("haiku-2", at_ms=START_MS))
    gone = rig.runs_on("a")
    assert gone is not None
    rig.hand_in(retired(gone))
    rig.ends("a", "failure")
    assert rig.runs_on("a") == ({"haiku-1", "haiku-2"} - {gone}).pop()


def test_a_retired_slot_whose_lease_runs_out_is_gone() -> None:
    """The task does not wait until the slot announces itself."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(retired("haiku-1"))
    rig.wait(1_800)
    assert rig.row("haiku-1") is None
    assert rig.headline("a") == "no_capable_model"


def test_a_lost_slot_that_retires_is_gone() -> None:
    """Its model leaves the fleet with its last slot."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.wait(1_800)
    rig.hand_in(retired("haiku-1"))
    assert rig.row("haiku-1") is None
    assert rig.headline("a") == "no_capable_model"


@pytest.mark.rule("control.slot.retired")
def test_who_retires_a_slot_that_is_not_there_changes_nothing() -> None:
    """The event is counted and changes nothing."""
    rig = RouterRig()
    assert rig.hand_in(retired("haiku-9")).counts == {"unknown_slot": 1}


@pytest.mark.rule("slot.retired")
@pytest.mark.parametrize("leased", [False, True], ids=["free", "leased"])
def test_lease_numbers_go_on_when_a_retired_slot_comes_back(leased: bool) -> None:
    """So that the late end of its first life frees nothing in its second."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    end = rig.end_of("a")
    events: list[SlotFreed | SlotRetired] = [end, retired("haiku-1")]
    rig.hand_in(*(reversed(events) if leased else events))
    assert rig.row("haiku-1") is None
    assert rig.hand_in(end).counts == {"stale_free": 1}
    assert rig.row("haiku-1") is None
    rig.hand_in(slot(at_ms=rig.now_ms + 60_000), after_s=60)
    step = rig.hand_in(task("b"))
    assert step.decisions[0].lease == 2
    rig.hand_in(end)
    assert rig.runs_on("b") == "haiku-1"


def test_a_late_end_with_its_model_does_not_bring_a_retired_slot_back() -> None:
    """It was seen before: only an announcement registers it again."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(retired("haiku-1"))
    rig.ends("a")
    rig.hand_in(freed("haiku-1", 1, "a", model="haiku"))
    assert rig.row("haiku-1") is None


@pytest.mark.rule("detail.23")
def test_a_slot_may_retire_while_leased_and_announce_itself_again() -> None:
    """It restarted: it is in service, and its task is pending again."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.hand_in(retired("haiku-1"))
    rig.hand_in(slot(at_ms=START_MS + 5_000), after_s=5)
    row = rig.row("haiku-1")
    assert row is not None
    assert (row.task_id, row.lease, row.retired) == ("a", 2, False)


@pytest.mark.rule("slot.changed_model")
def test_a_slot_that_changes_its_model_is_another_one_of_the_fleet() -> None:
    """Free or with its end, it says so; its lease numbers go on."""
    rig = RouterRig()
    rig.hand_in(slot("s-1", "haiku"))
    rig.hand_in(slot("s-1", "opus", at_ms=START_MS + 1))
    step = rig.hand_in(task("a", requires={"coding": 10}))
    assert (step.decisions[0].chosen_model, step.decisions[0].lease) == ("opus", 1)
    rig.hand_in(freed("s-1", 1, "a", model="sonnet"))
    step = rig.hand_in(task("b", requires={"coding": 10}), task("c"))
    assert outcomes(step) == {"b": "no_capable_model", "c": "s-1"}
    assert [one.lease for one in step.decisions if one.task_id == "c"] == [2]
    assert step.decisions[0].chosen_model == "sonnet"


def test_the_work_of_a_slot_that_changed_its_model_was_done_by_the_old_one() -> None:
    """The outcome names the model that the decision chose."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    step = rig.hand_in(freed("haiku-1", 1, "a", model="opus"))
    assert [one.model for one in step.work] == ["haiku"]
