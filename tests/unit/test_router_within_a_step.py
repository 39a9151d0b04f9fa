"""A step may hold minutes of a log: what falls due, comes and goes between its inputs is as if each were a step."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.decision import LastReport, SlotGone
from schemas.events import ModelDrained, TaskCancelled
from schemas.vocabulary import Millis, from_millis
from tests.support.builders import START_MS, retired, slot, task, tick
from tests.support.router_rig import RouterRig, outcomes

START = Millis(START_MS)
WHOSE: dict[str, Any] = {"control_id": "c", "by": "ops", "at": from_millis(START_MS)}


@pytest.mark.parametrize(("after_ms", "want"), {999: {}, 1_000: {"a": "haiku-1"}, 5_000: {"a": "haiku-1"}}.items())
def test_a_delayed_task_is_served_in_the_step_in_which_it_falls_due(after_ms: int, want: dict[str, str]) -> None:
    """At its moment, though no step has seen it before."""
    rig = RouterRig("haiku-1")
    assert outcomes(rig.hand_in_timed([(0, task("a", not_before_ms=START_MS + 1_000)), (after_ms, tick())])) == want


def test_several_fall_due_one_after_the_other() -> None:
    """Each before the first input that is not before it."""
    rig = RouterRig("haiku-1", "haiku-2", "haiku-3")
    delayed = [(0, task(f"t-{s}", not_before_ms=START_MS + 1_000 * s)) for s in (5, 1, 3)]
    step = rig.hand_in_timed([*delayed, (2_000, tick()), (2_000, tick()), (2_000, tick())])
    assert {one.task_id: one.outcome for one in step.decisions} == {"t-1": "routed", "t-3": "routed", "t-5": "routed"}
    assert {row.task.task_id: row.status.accepted_ms - START_MS for row in step.tasks} == {
        "t-1": 1_000,
        "t-3": 3_000,
        "t-5": 5_000,
    }


def test_one_that_falls_due_between_two_inputs_is_before_those_that_came_later() -> None:
    """It has waited since its moment, and the other began later."""
    rig = RouterRig()
    early = task("early", not_before_ms=START_MS + 1_000, priority=50)
    late = task("late", at_ms=START_MS + 90_000, priority=51)
    step = rig.hand_in_timed([(0, early), (90_000, late), (0, slot("haiku-1"))])
    assert outcomes(step) == {"early": "haiku-1", "late": "capable_busy"}


def test_what_falls_due_first_happens_first() -> None:
    """A deadline of a second ends a task before the lease of another step runs out and frees nothing for it."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("runs"))
    lease_ms = rig.router.due_ms()
    assert lease_ms is not None
    rig.now_ms = lease_ms - 2_000
    expiring = task("short", deadline_ms=lease_ms - 1_000)
    step = rig.hand_in_timed([(0, expiring), (5_000, tick())])
    assert {one.task_id: (one.outcome, one.decided_at_ms) for one in step.decisions} == {
        "short": ("expired", step.now_ms),
        "runs": ("waiting", step.now_ms),
    }
    assert {one.task_id: one.at_ms for one in step.finished} == {"short": lease_ms - 1_000}


def test_a_task_that_comes_and_is_cancelled_leaves_its_end_only() -> None:
    """It is no unfinished task of the journal."""
    cancelled = TaskCancelled(pool="main", task_id="a", **WHOSE)
    step = RouterRig("haiku-1").hand_in(task("a"), cancelled, task("b"))
    assert [row.task.task_id for row in step.tasks] == ["b"]
    assert [(one.task_id, one.what) for one in step.finished] == [("a", "cancelled")]
    assert outcomes(step) == {"a": "cancelled", "b": "haiku-1"}


def test_a_cancel_ahead_of_its_task_is_used_up_by_it() -> None:
    """Nothing of it is remembered beyond the step."""
    step = RouterRig("haiku-1").hand_in(TaskCancelled(pool="main", task_id="a", **WHOSE), task("a"))
    assert outcomes(step) == {"a": "cancelled"}
    assert step.cancels == ()


def test_a_task_that_ended_in_the_step_comes_no_second_time() -> None:
    """It is counted as a duplicate."""
    cancelled = TaskCancelled(pool="main", task_id="a", **WHOSE)
    step = RouterRig("haiku-1").hand_in(task("a"), cancelled, task("a"))
    assert outcomes(step) == {"a": "cancelled"}
    assert step.counts == {"duplicate_task": 1}


def test_a_slot_that_comes_and_leaves_is_gone() -> None:
    """And gets nothing."""
    rig = RouterRig()
    step = rig.hand_in(slot("haiku-1"), task("a"), retired("haiku-1"))
    assert step.slots == ()
    assert step.slots_gone == (SlotGone("main", "haiku-1", 0, START, LastReport(START, START)),)
    assert outcomes(step) == {"a": "no_capable_model"}


def test_a_slot_that_leaves_and_comes_back_goes_on_counting_its_leases() -> None:
    """Else an old outcome could be taken for a new one."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    rig.ends("a")
    step = rig.hand_in(retired("haiku-1"), slot("haiku-1", at_ms=START_MS + 1), task("b"))
    assert step.slots_gone == ()
    assert [(one.chosen_slot_id, one.lease) for one in step.decisions] == [("haiku-1", 2)]


def test_a_mark_holds_in_a_pool_that_begins_later_in_its_step() -> None:
    """Until its moment, which may lie within the step."""
    until = from_millis(START_MS + 1_000)
    drained = ModelDrained(model="haiku", until=until, **WHOSE)
    pending = (0, slot("haiku-1", pool="side")), (0, task("a", pool="side"))
    assert outcomes(RouterRig().hand_in_timed([(0, drained), *pending])) == {"a": "drained"}
    assert outcomes(RouterRig().hand_in_timed([(0, drained), (1_000, tick()), *pending])) == {"a": "haiku-1"}
