"""Premium slots are kept for what is worth it, and what is worth most may claim more than it needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from schemas.events import TaskPending
from streams.core.router import Router
from tests.support.builders import START_MS, inputs, retired, rulebook, slot, task, tick
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig, outcomes

FIVES = (5.0,) * 5


class Case(NamedTuple):
    """A task that arrives, and what comes of it."""

    task: TaskPending
    want: str
    want_lifted: bool = False


PREMIUM = {
    "EV below P50": Case(task(ev=4.99), "reserved_for_ev"),
    "EV exactly P50": Case(task(ev=5.0), "opus-1"),
    "EV above P50": Case(task(ev=5.01), "opus-1", want_lifted=True),
    "a negative EV": Case(task(ev=-1.0), "reserved_for_ev"),
    "an unknown EV": Case(task(), "reserved_for_ev"),
    "ingredients that make a low EV": Case(
        task(importance=1.0, tractability=1.0, impact=1.0, estimated_cost=1.0), "reserved_for_ev"
    ),
    "ingredients with a cost of 0": Case(
        task(importance=9.0, tractability=9.0, impact=9.0, estimated_cost=0.0), "reserved_for_ev"
    ),
    "priority 89": Case(task(ev=1.0, priority=89), "reserved_for_ev"),
    "priority 90": Case(task(ev=1.0, priority=90), "opus-1"),
    "priority 90 and an unknown EV": Case(task(priority=90), "opus-1"),
    "priority 89 that aged an hour": Case(task(ev=1.0, priority=89, at_ms=START_MS - 3_600_000), "reserved_for_ev"),
    "priority 89 that aged to patience": Case(task(ev=1.0, priority=89, at_ms=START_MS - 3_660_000), "opus-1"),
    "quest priority 95 opens no gate": Case(task(quest_priority=95), "reserved_for_ev", want_lifted=True),
    "nothing cheaper is good enough": Case(task(ev=1.0, requires={"coding": 10}), "opus-1"),
    "nothing cheaper is allowed": Case(task(ev=1.0, floor_model="opus"), "opus-1"),
    "something cheaper is good enough and busy": Case(task(ev=1.0, requires={"safety": 7}), "reserved_for_ev"),
}


@pytest.mark.rule("gate.premium")
@pytest.mark.parametrize("case", PREMIUM.values(), ids=PREMIUM.keys())
def test_opus_is_kept_for_tasks_of_value_while_haiku_is_busy(case: Case) -> None:
    """P50 and P90 are 5; opus is free, haiku is not."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *FIVES)
    step = rig.hand_in(case.task)
    assert outcomes(step) == {"t-1": case.want}
    assert step.decisions[0].lifted == case.want_lifted


PATIENT = (100 * 60_000, "low", "It has reached 150 points, so no premium slot is kept from it.")


def kept_back(**policy: Any) -> RouterRig:
    """Give a rig in which `low` waits beside an idle opus; the lease of the haiku outlasts patience."""
    rig = RouterRig("opus-1", "haiku-1", book=rulebook(leases={"default_s": 86_400.0}, **policy))
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *FIVES)
    assert outcomes(rig.hand_in(task("low", ev=1.0))) == {"low": "reserved_for_ev"}
    return rig


@pytest.mark.rule("amend.32")
def test_an_idle_opus_takes_old_work_of_low_value_without_any_event() -> None:
    """The router asks to be woken at the millisecond of patience, although percentiles are not due before."""
    rig = kept_back(ev={"recompute_s": 86_400.0, "window_s": 86_400.0})
    after_ms, name, says = PATIENT
    assert rig.router.due_ms() == START_MS + after_ms
    assert rig.wait(after_ms / 1000 - 0.001).decisions == ()
    step = rig.wait(0.001)
    assert outcomes(step) == {name: "opus-1"}
    assert says in step.decisions[0].reason
    assert step.decisions[0].flags == ("patient",)


@pytest.mark.rule("amend.32")
def test_a_discarded_look_past_patience_opens_nothing() -> None:
    """Around each step one of two hours later is computed, and never was; nor does a follower remember its own."""
    rig = kept_back(ev={"recompute_s": 86_400.0, "window_s": 86_400.0})
    rig.discarded = inputs(tick(), now_ms=START_MS + 2 * 3_600_000)
    assert rig.wait(3_600).decisions == ()
    assert outcomes(rig.follower.handle(rig.discarded)) == {"low": "opus-1"}
    assert outcomes(rig.hand_in(task("low-2", ev=1.0))) == {"low-2": "reserved_for_ev"}
    assert outcomes(rig.follower.handle(inputs(task("low-3", ev=1.0), now_ms=rig.now_ms, offset=90))) == {
        "low-3": "reserved_for_ev"
    }
    assert rig.router.due_ms() == rig.follower.due_ms() == START_MS + PATIENT[0]
    rig.discarded = []
    assert outcomes(rig.wait(2_400))["low"] == "opus-1"


LIFT = {
    "EV exactly P90": Case(task(ev=5.0), "haiku-1"),
    "EV above P90": Case(task(ev=5.01), "opus-1", want_lifted=True),
    "an unknown EV": Case(task(), "haiku-1"),
    "quest priority 94": Case(task(quest_priority=94), "haiku-1"),
    "quest priority 95, below the premium floor": Case(task(quest_priority=95), "sonnet-1", want_lifted=True),
    "quest priority 95, above the premium floor": Case(
        task(quest_priority=95, priority=90), "opus-1", want_lifted=True
    ),
    "EV above P90, no premium wanted": Case(task(ev=9.0, max_tier=2), "sonnet-1", want_lifted=True),
    "priority 100 does not lift": Case(task(priority=100), "haiku-1"),
}


@pytest.mark.rule("lift", "reason.lifted")
@pytest.mark.parametrize("case", LIFT.values(), ids=LIFT.keys())
def test_a_lifted_task_looks_from_the_highest_tier_down(case: Case) -> None:
    """P50 and P90 are 5; one slot of every tier is free."""
    rig = RouterRig("opus-1", "sonnet-1", "haiku-1")
    percentiles(rig, *FIVES)
    step = rig.hand_in(case.task)
    assert outcomes(step) == {"t-1": case.want}
    assert step.decisions[0].lifted == case.want_lifted
    assert step.decisions[0].reason_code == ("lifted" if case.want_lifted else "cheapest_capable")


@pytest.mark.rule("amend.31", "detail.13")
def test_no_task_waits_beside_an_idle_opus_for_a_lost_sonnet() -> None:
    """A lost sonnet counts as something cheaper when it has announced itself; while a second one runs, all the time."""
    rig = RouterRig("opus-1", "sonnet-1", "sonnet-2")
    lost = {"max_tier": 2, "complexity": "standard", "deadline_ms": rig.now_ms + 1}
    rig.hand_in(task("a", **lost), task("b", max_tier=2, complexity="complex"))
    percentiles(rig, *FIVES)
    rig.wait(1_800)
    assert outcomes(rig.hand_in(task("low", ev=1.0, requires={"coding": 8}))) == {"low": "reserved_for_ev"}
    assert outcomes(rig.hand_in(retired("sonnet-2"))) == {"low": "opus-1"}
    rig.ends("low")
    assert outcomes(rig.hand_in(task("low-2", ev=1.0, requires={"coding": 8}))) == {"low-2": "opus-1"}
    rig.hand_in(slot("sonnet-1", at_ms=rig.now_ms))
    rig.hand_in(task("holds-it", requires={"coding": 8}))
    rig.ends("low-2")
    assert outcomes(rig.hand_in(task("low-3", ev=1.0, requires={"coding": 8}))) == {"low-3": "reserved_for_ev"}


def test_the_premium_floor_ends_where_the_last_cheaper_model_leaves_the_fleet() -> None:
    """Who waited for EV has opus in the same step."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *FIVES)
    rig.hand_in(task("low", ev=1.0))
    rig.hand_in(retired("haiku-1"))
    assert rig.runs_on("low") == "opus-1"


def test_with_four_samples_there_is_neither_premium_floor_nor_lift() -> None:
    """The fifth makes both."""
    rig = RouterRig("opus-1", "haiku-1")
    assert percentiles(rig, 5.0, 5.0, 5.0) is None
    assert outcomes(rig.hand_in(task("high", ev=100.0))) == {"high": "haiku-1"}
    assert outcomes(rig.hand_in(task("unknown"))) == {"unknown": "opus-1"}


def test_the_fifth_sample_is_the_task_that_is_decided() -> None:
    """A task's own EV counts, and none yet is not kept: no two minutes pass."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, 5.0, 5.0, 5.0, 5.0)
    assert outcomes(rig.hand_in(task("low", ev=4.0))) == {"low": "reserved_for_ev"}
    assert rig.steps[-1].percentiles[0].samples == 5


@pytest.mark.rule("percentiles")
def test_percentiles_hold_for_two_minutes() -> None:
    """What arrives meanwhile counts when they are recomputed."""
    rig = RouterRig("opus-1", "haiku-1")
    known = percentiles(rig, *FIVES)
    rig.now_ms += 119_999
    assert percentiles(rig, *(1.0,) * 3) == known
    assert rig.steps[-1].percentiles == ()
    rig.now_ms += 1
    fresh = percentiles(rig, 9.0)
    assert fresh is not None
    assert (fresh.samples, fresh.p50) == (9, 5.0)


@pytest.mark.rule("amend.34")
def test_the_first_five_tasks_do_not_decide_for_two_minutes_what_is_worth_much() -> None:
    """Percentiles of 5 samples hold until there are 10, those of 10 until there are 20, whatever the clock says."""
    rig = RouterRig("opus-1", "haiku-1")
    percentiles(rig, *FIVES)
    seen = [known for i in range(16) if (known := percentiles(rig, 10.0 + i)) is not None]
    assert [known.samples for known in seen] == [5] * 4 + [10] * 10 + [20] * 2
    assert len({known.at_ms for known in seen}) == 1


def test_samples_older_than_an_hour_leave_and_end_the_premium_floor() -> None:
    """The window slides by whole minutes; with fewer than five samples left there are no percentiles."""
    rig = RouterRig("opus-1", "haiku-1")
    percentiles(rig, *FIVES)
    rig.wait(3_659)
    rig.hand_in(task("in-the-way"))
    assert outcomes(rig.hand_in(task("low", ev=1.0))) == {"low": "reserved_for_ev"}
    assert outcomes(rig.wait(120)) == {"low": "opus-1"}
    assert rig.steps[-1].decisions[0].p50 is None
    again = percentiles(rig, *FIVES)
    assert again is not None
    assert again.p50 == 5.0


def test_an_ev_is_sampled_once_for_a_task_id() -> None:
    """Redelivered, failed and routed again, cancelled: one sample."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("a", ev=7.0))
    rig.hand_in(task("a", ev=7.0))
    rig.ends("a", "failure")
    rig.ends("a")
    rig.hand_in(task("a", ev=7.0))
    assert [sample.ev for step in rig.steps for sample in step.evs] == [7.0]


@pytest.mark.rule("wait.not_before")
def test_a_delayed_task_counts_from_its_arrival() -> None:
    """`not_before` keeps it from the slots, not from the window."""
    rig = RouterRig("haiku-1")
    step = rig.hand_in(task("later", ev=7.0, not_before_ms=rig.now_ms + 60_000))
    assert [sample.ev for sample in step.evs] == [7.0]


@pytest.mark.rule("task.ev")
def test_a_scorer_is_asked_where_no_ev_is_given_and_may_fail() -> None:
    """What it raises or calls infinite is an unknown EV; a given EV needs no scorer."""

    def scorer(task: TaskPending) -> float | None:
        if task.task_id == "broken":
            raise ZeroDivisionError
        return float("inf") if task.task_id == "endless" else 3.5

    rig = RouterRig("haiku-1", scorer=scorer)
    step = rig.hand_in(task("broken"), task("endless"), task("scored"), task("given", ev=8.0))
    assert {one.task_id: one.ev for one in step.decisions} == {
        "broken": None,
        "endless": None,
        "scored": 3.5,
        "given": 8.0,
    }


@pytest.mark.rule("task.ev")
def test_a_score_is_kept_for_a_minute() -> None:
    """Computing a step again asks the scorer again only after that."""
    asked = []

    def scorer(task: TaskPending) -> float | None:
        asked.append(task.task_id)
        return 1.0

    router = Router(0, rulebook(), scorer=scorer)
    for after_ms, want_asked in ((0, 1), (59_999, 1), (60_000, 2)):
        router.handle(inputs(task("a"), now_ms=START_MS + after_ms))
        assert len(asked) == want_asked


@pytest.mark.rule("pool")
def test_pools_have_percentiles_of_their_own() -> None:
    """The percentiles of one pool have no effect in another."""
    rig = RouterRig("opus-1", "haiku-1")
    percentiles(rig, *FIVES)
    side = [task(f"s-{i}", pool="side", ev=1.0) for i in range(2)]
    step = rig.hand_in(*side)
    assert {one.p50 for one in step.decisions} == {None}


def test_a_decision_says_where_its_ev_stands() -> None:
    """Share of the samples below: 0 for the least, 1 above the most, none for an unknown one."""
    rig = RouterRig("haiku-1")
    percentiles(rig, *map(float, range(1, 12)))
    step = rig.hand_in(task("low", ev=0.0), task("middle", ev=6.0), task("high", ev=99.0), task("unknown"))
    said = {one.task_id: one.ev_percentile for one in step.decisions}
    assert said == {"low": 0.0, "middle": 0.5, "high": 1.0, "unknown": None}


def test_where_all_evs_are_equal_no_task_is_lifted_and_none_is_low() -> None:
    """A percentile of 300 times 7.3 may be 7.299999999999999, and that is 7.3."""
    rig = RouterRig("opus-1", "haiku-1")
    percentiles(rig, *((7.3,) * 300))
    rig.hand_in(task("in-the-way", ev=7.3))
    step = rig.hand_in(task(ev=7.3))
    assert outcomes(step) == {"t-1": "opus-1"}
    assert not step.decisions[0].lifted
