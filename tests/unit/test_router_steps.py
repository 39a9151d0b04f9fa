"""Steps have no side effects, are applied in order and have stable ids; the state can be checked and restored."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.events import BudgetCredited
from schemas.input import Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import Millis
from streams.core.router import Router, accept_time
from streams.core.state.invariants import InvariantBroken
from streams.core.state.partition import StepOutOfOrder
from streams.core.step import slot_reports
from streams.core.step.decision_ids import decision_id
from tests.support.builders import START_MS, cancelled, inputs, rulebook, slot, task, tick
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig, outcomes, picture


def busy_rig() -> RouterRig:
    """Give a rig with something of everything."""
    rig = RouterRig("opus-1", "haiku-1", "haiku-2")
    percentiles(rig, 1.0, 2.0, 3.0, 4.0, 5.0)
    rig.hand_in(task("a"), task("b"), cancelled("unseen"))
    rig.hand_in(task("low", ev=1.0), task("later", not_before_ms=START_MS + 90_000), after_s=1)
    rig.ends("a", "failure", after_s=1)
    rig.hand_in(task("hopeless", requires={"coding": 10}, max_tier=1, deadline_ms=START_MS + 60_000))
    return rig


# Handle and apply.


def test_handling_changes_nothing() -> None:
    """Not the state, not what is due, not the next answer; only applying does."""
    rig = busy_rig()
    router = rig.router
    before = (picture(router), router.due_ms(), router.seq, router.now_ms, router.changes)
    batch = inputs(task("new"), tick(), slot("sonnet-1"), now_ms=rig.now_ms + 3_600_000, offset=100)
    first = encode_step(router.handle(batch))
    router.handle(inputs(task("another"), cancelled("low"), now_ms=rig.now_ms, offset=100))
    assert (picture(router), router.due_ms(), router.seq, router.now_ms, router.changes) == before
    assert encode_step(router.handle(batch)) == first


def test_a_step_that_was_never_applied_leaves_no_trace() -> None:
    """The journal may have taken another one."""
    rig = busy_rig()
    rig.router.handle(inputs(slot("haiku-3"), now_ms=rig.now_ms, offset=100))
    step = rig.hand_in(task("new", max_tier=1))
    assert outcomes(step) == {"new": "capable_busy"}


@pytest.mark.parametrize("offset", [-1, 1, 7])
def test_a_step_out_of_order_is_refused(offset: int) -> None:
    """Nothing is changed, and the right one still fits."""
    rig = busy_rig()
    step = rig.router.handle(inputs(task("new"), now_ms=rig.now_ms, offset=100))
    before = picture(rig.router)
    with pytest.raises(StepOutOfOrder, match=f"at step {step.seq} and was given step {step.seq + offset}"):
        rig.router.apply(replace(step, seq=step.seq + offset))
    assert picture(rig.router) == before
    rig.router.apply(step)
    assert rig.router.seq == step.seq + 1


def test_positions_and_time_follow_the_inputs() -> None:
    """Per input topic the last offset; before the first, -1."""
    router = Router(3, rulebook())
    assert ([router.position(topic) for topic in range(3)], router.seq, router.rows) == ([-1, -1, -1], 0, 0)
    step = router.handle(inputs(task("a"), slot(), task("b"), offset=40))
    router.apply(step)
    assert (step.partition, step.seq, step.now_ms) == (3, 0, START_MS)
    assert [router.position(topic) for topic in range(3)] == [42, 41, -1]
    assert (router.seq, router.now_ms, router.rows) == (1, START_MS, 3)


def test_no_inputs_make_an_empty_step() -> None:
    """It has a number like any other."""
    rig = busy_rig()
    step = rig.take([])
    assert (step.decisions, step.inputs, step.now_ms) == ((), (), rig.now_ms)


@pytest.mark.rule("policy.hash", "record.shadow")
def test_a_step_carries_both_hashes_and_the_mode() -> None:
    """Every decision carries the hashes of policy and catalogue."""
    rig = RouterRig("haiku-1", mode="shadow")
    step = rig.steps[-1]
    assert (step.policy, step.catalog, step.mode) == (rig.book.policy_hash, rig.book.catalog_hash, "shadow")


# Inputs without an effect.


def test_an_unreadable_input_is_rejected_and_the_rest_is_handled() -> None:
    """It stands in the step with its place and its reason."""
    rig = RouterRig("haiku-1", "haiku-2")
    step = rig.hand_in(task("a"), Unreadable("no JSON"), task("floorless", floor_model="x"), task("b"))
    assert outcomes(step) == {"a": "haiku-1", "b": "haiku-2"}
    assert [(one.topic, one.offset, one.reason[:11]) for one in step.rejected] == [
        (0, 1, "no JSON"),
        (0, 2, "floor_model"),
    ]
    assert len(step.inputs) == 4


@pytest.mark.rule("control.once")
def test_an_operator_event_is_taken_once() -> None:
    """It stands in the step that took it; the same id again is a duplicate."""
    rig = RouterRig("haiku-1")
    event = BudgetCredited(control_id="credit-1", at=rig.at, by="ops", pool="main", tenant_id="acme", amount_usd=5.0)
    (taken,) = rig.hand_in(event).controls
    assert (taken.control_id, taken.kind, json.loads(bytes(taken.event))["amount_usd"]) == (
        "credit-1",
        "budget.credited",
        5.0,
    )
    again = rig.hand_in(event)
    assert (again.counts, again.controls, again.ledgers) == ({"duplicate_control": 1}, (), ())


def test_a_router_that_raised_decides_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug in one step leaves neither state nor index behind."""
    rig = busy_rig()
    before = picture(rig.router)
    batch = inputs(task("new", priority=99), slot("haiku-3"), tick(), now_ms=rig.now_ms + 120_000, offset=100)

    def broken(*_: Any) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(slot_reports, "report", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            rig.router.handle(batch)
    assert picture(rig.router) == before
    step = rig.router.handle(batch)
    assert encode_step(step) == encode_step(rig.follower.handle(batch))
    assert outcomes(step) == {"a": "haiku-3", "new": "opus-1", "hopeless": "expired", "later": "capable_busy"}
    rig.router.apply(step)
    rig.router.validate()


# Names and times.


def test_decision_ids_are_uuid_5_and_stable() -> None:
    """Of pool, step and task, in slotwise's own namespace; the same on every machine."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "slotwise:decision")
    for pool, seq, task_id in (("main", 0, "t-1"), ("side", 41, "a:b/c"), ("main", 2**40, "ü")):
        assert decision_id(pool, seq, task_id) == str(uuid.uuid5(namespace, f"{pool}/{seq}/{task_id}"))
    assert uuid.UUID(decision_id("main", 0, "t-1")).version == 5
    assert decision_id("main", 0, "t-1") == "d8f0c6b5-f6bc-51d7-8d6a-c2a15e7ae8de"


def test_no_two_decisions_share_an_id() -> None:
    """An announcement and a new attempt have ids of their own."""
    ids = [one.decision_id for one in busy_rig().decisions()]
    assert len(ids) > 8
    assert len(set(ids)) == len(ids)


ACCEPTED = {
    "in order": (2_000, 1_000, 2_000, 2_000),
    "behind the one before": (500, 1_000, 2_000, 1_000),
    "a little ahead of the clock": (2_400, 1_000, 2_000, 2_400),
    "far ahead of the clock": (99_000, 1_000, 2_000, 2_500),
    "the clock went back": (1_500, 9_000, 2_000, 9_000),
}


@pytest.mark.parametrize(("record_ms", "before_ms", "clock_ms", "want_ms"), ACCEPTED.values(), ids=ACCEPTED.keys())
def test_the_time_of_a_record_never_goes_back_and_never_far_ahead(
    record_ms: int, before_ms: int, clock_ms: int, want_ms: int
) -> None:
    """Half a second ahead of the clock is let through here."""
    assert accept_time(record_ms, Millis(before_ms), clock_ms, 500) == want_ms


# Looking at it.


def test_a_history_has_what_happened_so_far() -> None:
    """Entries are in order, with the step and a detail; a finished task has none."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("first"))
    rig.hand_in(task("a"), after_s=1)
    rig.ends("first", after_s=1)
    rig.ends("a", "failure", after_s=1)
    told = [(moment.at_ms - START_MS, moment.seq, moment.what, moment.detail) for moment in rig.router.history("a")]
    assert told == [
        (1_000, 2, "accepted", ""),
        (1_000, 2, "waits", "capable_busy"),
        (2_000, 3, "routed", "haiku-1"),
        (3_000, 4, "failed", "haiku-1"),
        (3_000, 4, "routed", "haiku-1"),
    ]
    rig.ends("a")
    assert rig.router.history("a") == ()


def _task(router: Router, task_id: str, **status: Any) -> None:
    tasks = router.state.pool("main").tasks
    tasks[task_id] = replace(tasks[task_id], status=replace(tasks[task_id].status, **status))


def _slot(router: Router, slot_id: str, **fields: Any) -> None:
    slots = router.state.pool("main").slots
    slots[slot_id] = replace(slots[slot_id], **fields)


CONTRADICTIONS: dict[str, tuple[Callable[[Router], object], str]] = {
    "a leased slot without a task": (lambda r: _slot(r, "haiku-1", task_id=None), "I1: slot haiku-1 is leased"),
    "a free slot with a task": (lambda r: _slot(r, "opus-1", task_id="low"), "I1: slot opus-1 is free with task low"),
    "two slots with one task": (
        lambda r: _slot(r, "haiku-2", task_id=r.state.pool("main").slots["haiku-1"].task_id),
        "I1: two slots of pool main hold the same task",
    ),
    "a slot that holds what is not there": (lambda r: r.state.pool("main").tasks.pop("b"), "which is not there"),
    "a waiting task on a slot": (lambda r: _task(r, "b", state="waiting"), "I1: task b is waiting, on slot haiku"),
    "a running task on no slot": (lambda r: _task(r, "a", state="running"), "I1: task a is running, on slot None"),
    "two leases for one hold": (lambda r: _task(r, "b", lease=77), "disagree on the lease"),
    "a hold without end": (lambda r: _slot(r, "haiku-1", lease_expires_at_ms=None), "I8: slot haiku-1 holds"),
    "a lease number of 0": (lambda r: _slot(r, "haiku-1", lease=0), "I8: slot haiku-1 holds"),
    "a wait without a reason": (lambda r: _task(r, "hopeless", headline=None), "task hopeless waits without a reason"),
    "a slot in another pool": (lambda r: _slot(r, "opus-1", pool="side"), "slot opus-1 of pool side stands in pool"),
    "finished and not": (
        lambda r: r.state.pool("main").finished.update(a=next(iter(r.state.pool("main").finished.values()))),
        "I2: task a is finished and waiting",
    ),
}


@pytest.mark.parametrize(("spoil", "want"), CONTRADICTIONS.values(), ids=CONTRADICTIONS.keys())
def test_a_state_that_contradicts_itself_is_found(spoil: Callable[[Router], object], want: str) -> None:
    """The message names the rows."""
    router = busy_rig().router
    router.validate()
    spoil(router)
    with pytest.raises(InvariantBroken, match=want):
        router.validate()


# Keeping it.


def test_a_restored_router_goes_on_as_if_nothing_had_happened() -> None:
    """The same state, the same dues, and the same steps from there on."""
    rig = busy_rig()
    twin = Router.restore(0, rig.book, picture(rig.router))
    assert picture(twin) == picture(rig.router)
    assert (twin.seq, twin.now_ms, twin.due_ms(), twin.rows) == (
        rig.router.seq,
        rig.router.now_ms,
        rig.router.due_ms(),
        rig.router.rows,
    )
    assert [twin.position(topic) for topic in range(3)] == [rig.router.position(topic) for topic in range(3)]
    known = len(rig.batches)
    rig.ends("b", after_s=5)
    rig.hand_in(task("new", ev=9.0), slot("sonnet-1"), task("unseen"), task("low", ev=1.0), after_s=60)
    rig.wait(60)
    rig.wait(1_800)
    rig.hand_in(slot("haiku-1"), slot("haiku-2"), slot("opus-1"))
    for batch, step in zip(rig.batches[known:], rig.steps[known:], strict=True):
        again = twin.handle(batch)
        assert encode_step(again) == encode_step(step)
        twin.apply(again)
    assert picture(twin) == picture(rig.router)


def test_a_snapshot_is_a_picture_of_its_moment() -> None:
    """Steps applied while it is read do not change it."""
    rig = busy_rig()
    whole = picture(rig.router)
    reading = rig.router.snapshot()
    first = next(reading)
    rig.hand_in(task("new"), slot("sonnet-1"), cancelled("low"))
    assert [first, *reading] == whole


def test_a_fresh_router_has_a_snapshot_too() -> None:
    """A new router has a snapshot, which restores to a new router."""
    router = Router(0, rulebook())
    twin = Router.restore(0, router.rulebook, router.snapshot(), mode="shadow")
    assert (twin.seq, twin.rows, twin.due_ms(), twin.mode) == (0, 0, None, "shadow")
