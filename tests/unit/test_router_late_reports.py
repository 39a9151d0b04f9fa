"""Work reported after its lease: the slot is back, what was spent is paid, the task is done if no other slot has it."""

from __future__ import annotations

import pytest

from schemas.events import BudgetCredited, ModelDrained
from schemas.vocabulary import from_millis
from tests.support.builders import START_MS, cancelled, freed, inputs, retired, rulebook, slot, task
from tests.support.router_rig import RouterRig, outcomes

CREDITED = BudgetCredited(
    control_id="credited", by="ops", at=from_millis(START_MS), pool="main", tenant_id="acme", amount_usd=1.0
)
DRAINED = ModelDrained(control_id="drained", by="ops", at=from_millis(START_MS), model="haiku")


@pytest.mark.rule("amend.28")
def test_a_task_that_overran_its_lease_is_done_and_its_slot_works_on() -> None:
    """The dispatcher need not announce itself: the end with the lease is enough."""
    rig = RouterRig("haiku-1")
    (routed,) = rig.hand_in(task("a")).decisions
    rig.wait(1_800)
    step = rig.hand_in(freed("haiku-1", 1, "a", outcome={"cost_usd": 0.5}), task("b"), after_s=200)
    assert [one.what for one in step.finished] == ["done"]
    assert outcomes(step) == {"b": "haiku-1"}
    (done,) = step.work
    assert (done.decision_id, done.lease, done.cost_uusd) == (routed.decision_id, 1, 500_000)


@pytest.mark.rule("amend.28")
def test_the_end_of_a_lease_that_ran_out_in_the_same_step_counts() -> None:
    """What fell due before an input happens before it, and the end is late."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    step = rig.hand_in(rig.end_of("a"), after_s=1_800)
    assert step.counts == {"lost_slot": 1, "late_free": 1}
    assert [one.what for one in step.finished] == ["done"]
    assert len(step.work) == 1


@pytest.mark.rule("amend.28")
@pytest.mark.parametrize("end", ["cancelled", "expired", "dead_lettered", "done elsewhere"])
def test_a_late_outcome_of_a_task_that_is_over_is_paid_for_and_changes_nothing_else(end: str) -> None:
    """It was cancelled, its deadline passed, it was given up, or another slot did it."""
    failures_max = 1 if end == "dead_lettered" else 5
    book = rulebook(attempts={"back_off_s": 0.0, "failures_max": failures_max})
    rig = RouterRig("haiku-1", "haiku-2", book=book)
    rig.hand_in(CREDITED)
    rig.hand_in(task("a", tenant_id="acme", deadline_ms=START_MS + (1_000 if end == "expired" else 10**9)))
    lost = str(rig.runs_on("a"))
    if end == "cancelled":
        rig.hand_in(cancelled("a"))
    rig.wait(1_800)
    if end == "done elsewhere":
        rig.ends("a", after_s=1, cost_usd=0.125)
    assert rig.status("a") is None
    before = rig.router.state.pool("main").ledgers["acme"]
    assert before.reserved_uusd == 0
    step = rig.hand_in(freed(lost, 1, "a", outcome={"cost_usd": 0.5}), after_s=1)
    assert (step.counts, step.finished, step.decisions) == ({"late_free": 1}, (), ())
    assert [(one.kind, one.amount_uusd) for one in step.money] == [("settle", 500_000)]
    assert [one.decision_id for one in step.money] == [one.decision_id for one in step.work]
    (after,) = step.ledgers
    assert after.consumed_uusd == before.consumed_uusd + 500_000
    assert after.available_uusd == before.available_uusd - 500_000


@pytest.mark.rule("amend.28")
def test_a_slot_that_restarted_and_then_reports_its_work_is_believed() -> None:
    """As long as it was given no other task; the second report of the same work is stale."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a"))
    late = rig.end_of("a")
    rig.hand_in(DRAINED)
    rig.hand_in(slot(at_ms=START_MS + 1_000), after_s=1)
    assert rig.headline("a") == "drained"
    step = rig.hand_in(late, late, after_s=1)
    assert step.counts == {"late_free": 1, "stale_free": 1}
    assert [one.what for one in step.finished] == ["done"]
    row = rig.row("haiku-1")
    assert row is not None
    assert (row.state, row.since_ms, row.unreported) == ("free", START_MS + 1_000, None)


@pytest.mark.rule("amend.28")
def test_a_late_outcome_of_a_model_that_left_the_catalogue_is_still_paid() -> None:
    """As it was reported, else as it was reserved: its prices are gone."""
    rig = RouterRig("opus-1", "opus-2")
    rig.hand_in(CREDITED)
    events = [task(name, tenant_id="acme", output_tokens=1_000) for name in ("a", "b")]
    (first, second) = rig.hand_in(*events).decisions
    rig.hand_in(retired("opus-1"), retired("opus-2"))
    rig.wait(1_800)
    rig.router.rulebook = rulebook(without=["opus"])
    assert first.estimated_cost_uusd is not None
    costs: list[dict[str, float]] = [{"cost_usd": 0.5, "output_tokens": 7}, {"output_tokens": 7}]
    reports = [
        freed(str(one.chosen_slot_id), 1, one.task_id, outcome=cost)
        for one, cost in zip((first, second), costs, strict=True)
    ]
    step = rig.router.handle(inputs(*reports, now_ms=rig.now_ms, offset=9))
    assert [one.cost_uusd for one in step.work] == [500_000, second.estimated_cost_uusd]
    assert [one.amount_uusd for one in step.money] == [500_000, second.estimated_cost_uusd]
