"""A round: who is served first, which slot they take, and who has the better one in the end."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from schemas.events import Affinity, SlotFreed, TaskPending
from tests.support.builders import START_MS, slot, task
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig, outcomes

MINUTE_MS = 60_000


def served(*tasks: TaskPending) -> list[str]:
    """Give the order in which one haiku slot takes tasks that wait."""
    rig = RouterRig()
    rig.hand_in(*tasks)
    step = rig.hand_in(slot("haiku-1"))
    order = []
    while step.decisions:
        order += [one.task_id for one in step.decisions if one.outcome == "routed"]
        step = rig.ends(order[-1])
    return order


ORDERS = {
    "a lifted task before priority": [task("z", priority=0, quest_priority=95), task("a", priority=100)],
    "priority before EV": [task("z", priority=51), task("a", ev=9.0)],
    "EV within a point of priority": [task("z", ev=9.0), task("a", ev=3.0)],
    "a negative EV before an unknown one": [task("z", ev=-1.0), task("a")],
    "EV before arrival": [task("z", ev=2.0), task("a", ev=1.0, at_ms=START_MS - 30_000)],
    "arrival before id": [task("z", at_ms=START_MS - 1), task("a")],
    "id at last": [task("a"), task("z")],
    "a minute of waiting is a point": [task("z", at_ms=START_MS - MINUTE_MS), task("a", priority=51)],
    "a point is as good as another": [task("z", priority=51, ev=2.0), task("a", ev=1.0, at_ms=START_MS - MINUTE_MS)],
    "less than a minute is no point": [task("z", priority=51), task("a", ev=9.0, at_ms=START_MS - MINUTE_MS + 1)],
    "a hundred minutes make up for any priority": [
        task("z", priority=0, at_ms=START_MS - 100 * MINUTE_MS),
        task("a", priority=100),
    ],
    "a hundred minutes are no more than that": [
        task("z", priority=100, ev=1.0),
        task("a", priority=0, at_ms=START_MS - 100 * MINUTE_MS),
    ],
    "a hundred and one outweigh any priority and EV": [
        task("z", priority=0, at_ms=START_MS - 101 * MINUTE_MS),
        task("a", priority=100, ev=99.0),
    ],
    "a time after now counts as now": [task("a"), task("z", at_ms=START_MS + 3_600_000)],
}


@pytest.mark.rule("round.service")
@pytest.mark.parametrize("want", ORDERS.values(), ids=ORDERS.keys())
def test_tasks_are_served_in_this_order(want: list[TaskPending]) -> None:
    """The order of arrival does not matter."""
    ids = [one.task_id for one in want]
    assert served(*want) == ids
    assert served(*reversed(want)) == ids


@pytest.mark.rule("service.ageing")
def test_waiting_moves_a_task_past_one_that_came_later() -> None:
    """Ageing goes on while it waits, not only between its `at` and its arrival."""
    rig = RouterRig()
    rig.hand_in(task("old", priority=50))
    rig.hand_in(task("young", priority=60, ev=9.0, at_ms=START_MS + 659_999), after_s=659.999)
    assert outcomes(rig.hand_in(slot("haiku-1")))["young"] == "haiku-1"
    rig = RouterRig()
    rig.hand_in(task("old", priority=50))
    rig.hand_in(task("young", priority=60, ev=9.0, at_ms=START_MS + 660_000), after_s=660)
    assert outcomes(rig.hand_in(slot("haiku-1")))["old"] == "haiku-1"


class Case(NamedTuple):
    """Tasks that wait, slots that come together, and who gets what."""

    tasks: list[TaskPending]
    slots: tuple[str, ...]
    want: dict[str, str]


ROUNDS = {
    "only capable here before priority": Case(
        [
            task("coder", priority=0, requires={"coding": 9}, max_tier=2),
            task("any", priority=99, affinity=Affinity(slot_id="codex-1")),
        ],
        ("codex-1", "sonnet-1"),
        {"coder": "codex-1", "any": "sonnet-1"},
    ),
    "only capable here after lifted": Case(
        [
            task("coder", priority=0, requires={"coding": 9}, max_tier=2),
            task("quest", quest_priority=95, affinity=Affinity(slot_id="codex-1")),
        ],
        ("codex-1", "sonnet-1"),
        {"quest": "codex-1"},
    ),
    "two free slots are not only one": Case(
        [
            task("coder", priority=0, requires={"coding": 9}, max_tier=2),
            task("any", priority=99, affinity=Affinity(slot_id="codex-1")),
        ],
        ("codex-1", "codex-2", "sonnet-1"),
        {"any": "codex-1", "coder": "codex-2"},
    ),
    "lowest tier": Case([task("a")], ("haiku-1", "opus-1", "sonnet-1"), {"a": "haiku-1"}),
    "lowest tier that is good enough": Case(
        [task("a", requires={"coding": 6})], ("haiku-1", "opus-1", "sonnet-1"), {"a": "sonnet-1"}
    ),
    "among equals the least id": Case([task("a")], ("haiku-2", "haiku-1"), {"a": "haiku-1"}),
    "among models of a tier the best score": Case([task("a")], ("glm-1", "minimax-1", "haiku-1"), {"a": "haiku-1"}),
    "at the slot it knows": Case([task("a", affinity=Affinity(slot_id="glm-1"))], ("glm-1", "haiku-1"), {"a": "glm-1"}),
    "a slot of a dearer tier does not count as known": Case(
        [task("a", affinity=Affinity(slot_id="opus-1"))], ("opus-1", "haiku-1"), {"a": "haiku-1"}
    ),
    "every task has a slot": Case(
        [task(f"t-{i}") for i in range(3)],
        ("opus-1", "sonnet-1", "haiku-1"),
        {"t-0": "haiku-1", "t-1": "sonnet-1", "t-2": "opus-1"},
    ),
    "the better tier goes to the higher EV": Case(
        [task("quest", ev=1.0, quest_priority=95), task("worthy", ev=9.0)],
        ("opus-1", "haiku-1"),
        {"quest": "haiku-1", "worthy": "opus-1"},
    ),
    "at equal EV there is no swap": Case(
        [task("quest", ev=9.0, quest_priority=95), task("worthy", ev=9.0)],
        ("opus-1", "haiku-1"),
        {"quest": "opus-1", "worthy": "haiku-1"},
    ),
    "whose gates refuse the better tier does not get it": Case(
        [task("quest", ev=1.0, quest_priority=95), task("worthy", ev=9.0, max_tier=1)],
        ("opus-1", "haiku-1"),
        {"quest": "opus-1", "worthy": "haiku-1"},
    ),
    "who needs the better tier keeps it": Case(
        [task("expert", ev=1.0, complexity="expert"), task("worthy", ev=9.0)],
        ("opus-1", "haiku-1"),
        {"expert": "opus-1", "worthy": "haiku-1"},
    ),
    "an unknown EV only gives": Case(
        [task("unknown", priority=60), task("known", ev=-5.0, quest_priority=95)],
        ("opus-1", "haiku-1"),
        {"unknown": "haiku-1", "known": "opus-1"},
    ),
    "an unknown EV gives to the least known one": Case(
        [task("unknown", quest_priority=95), task("known", ev=-5.0)],
        ("opus-1", "haiku-1"),
        {"unknown": "haiku-1", "known": "opus-1"},
    ),
    "values line up with tiers": Case(
        [task("low", ev=1.0, priority=60), task("middle", ev=2.0, priority=55), task("high", ev=3.0)],
        ("opus-1", "sonnet-1", "haiku-1"),
        {"low": "haiku-1", "middle": "sonnet-1", "high": "opus-1"},
    ),
    "a chain of swaps": Case(
        [
            task("any", ev=1.0, quest_priority=95),
            task("up-to-2", ev=2.0, max_tier=2, priority=60),
            task("from-2", ev=9.0, requires={"coding": 9}),
        ],
        ("opus-1", "codex-1", "haiku-1"),
        {"any": "haiku-1", "up-to-2": "codex-1", "from-2": "opus-1"},
    ),
    "a swap through one that keeps its tier": Case(
        [
            task("first", ev=10.0, quest_priority=99, priority=60),
            task("quest", ev=1.0, quest_priority=99),
            task("anthropic", ev=9.0, allow_providers=("anthropic",)),
        ],
        ("opus-1", "z-1", "sonnet-1"),
        {"first": "z-1", "anthropic": "opus-1", "quest": "sonnet-1"},
    ),
    "acceptance in small": Case(
        [*(task(f"t-{i}", ev=float(i), priority=90 - i) for i in range(4)), task("late", priority=0)],
        ("opus-1", "sonnet-1", "haiku-1", "haiku-2"),
        {"t-0": "haiku-1", "t-1": "haiku-2", "t-2": "sonnet-1", "t-3": "opus-1"},
    ),
}


@pytest.mark.rule("strategy.cheapest_capable", "round.swap")
@pytest.mark.parametrize("case", ROUNDS.values(), ids=ROUNDS.keys())
def test_what_waits_and_what_is_free_are_decided_together(case: Case) -> None:
    """The order of events in a step does not matter."""
    slots = [slot(name, "gpt-5" if name == "z-1" else None) for name in case.slots]
    orders: list[list[SlotFreed | TaskPending]] = [[*case.tasks, *slots], [*slots, *case.tasks]]
    for events in (*orders, orders[0][::-1]):
        step = RouterRig().hand_in(*events)
        assert {one.task_id: one.chosen_slot_id for one in step.decisions if one.chosen_slot_id} == case.want
    rig = RouterRig()
    rig.hand_in(*case.tasks)
    step = rig.hand_in(*slots)
    assert {one.task_id: one.chosen_slot_id for one in step.decisions if one.chosen_slot_id} == case.want


@pytest.mark.rule("detail.2")
def test_no_task_waits_for_a_cheaper_slot_while_an_admissible_one_is_idle() -> None:
    """Lowest tier means lowest among the slots free now."""
    rig = RouterRig("haiku-1", "opus-1")
    assert outcomes(rig.hand_in(task("a"), task("b"))) == {"a": "haiku-1", "b": "opus-1"}


@pytest.mark.rule("detail.2")
def test_no_slot_stays_idle_beside_a_task_that_may_use_it() -> None:
    """After each of many arrivals and ends, no waiting task has the verdict `ok` for anything."""
    rig = RouterRig("opus-1", "sonnet-1", "haiku-1", "haiku-2")
    percentiles(rig, 1.0, 2.0, 3.0, 4.0, 5.0)
    shapes: list[dict[str, Any]] = [
        {"ev": 1.0},
        {"ev": 9.0},
        {"requires": {"coding": 6}},
        {"max_tier": 1},
        {"priority": 95},
    ]
    for i in range(20):
        rig.hand_in(task(f"t-{i}", **shapes[i % 5]), after_s=7)
        if i % 3 == 2:
            running = next(row for row in rig.router.state.pool("main").slots.values() if row.task_id)
            assert running.task_id is not None
            rig.ends(running.task_id)
    waits = [one for one in rig.decisions() if one.outcome == "waiting"]
    assert len(waits) > 5
    assert not [one for one in waits if b'"ok"' in bytes(one.alternatives)]


def test_the_slot_that_was_busy_less_is_taken() -> None:
    """Within a tier, by its busy share over five minutes."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a"))
    rig.ends("a", after_s=60)
    step = rig.hand_in(task("b"))
    assert outcomes(step) == {"b": "haiku-2"}
    rig.ends("b", after_s=59)
    step = rig.hand_in(task("c"))
    assert outcomes(step) == {"c": "haiku-2"}
    assert step.decisions[0].utilisation == round(59 / 300, 6)


def test_what_was_busy_more_than_five_minutes_ago_does_not_count() -> None:
    """Then they are equal, and the id decides."""
    rig = RouterRig("haiku-1", "haiku-2")
    rig.hand_in(task("a"))
    rig.ends("a", after_s=60)
    rig.hand_in(task("b"), after_s=300)
    assert rig.runs_on("b") == "haiku-1"


def test_among_idle_slots_the_model_that_was_busy_less_is_taken() -> None:
    """Utilisation of the model breaks the tie before the id."""
    rig = RouterRig("haiku-1", "haiku-2", "minimax-1")
    rig.hand_in(task("a", allow_providers=("anthropic",)))
    rig.ends("a", after_s=60)
    rig.hand_in(task("b"))
    assert rig.runs_on("b") == "minimax-1"


@pytest.mark.rule("round.swap")
def test_a_swapped_slot_has_the_swap_as_its_reason() -> None:
    """The reason of both names the swap."""
    rig = RouterRig()
    step = rig.hand_in(
        task("quest", ev=1.0, quest_priority=95), task("worthy", ev=9.0), slot("opus-1"), slot("haiku-1")
    )
    assert all("the better tier goes to the higher EV" in one.reason for one in step.decisions)


@pytest.mark.rule("pool")
def test_pools_do_not_share_slots() -> None:
    """A free slot of one pool is not given to a task of another."""
    rig = RouterRig("haiku-1")
    step = rig.hand_in(task("a", pool="side"), task("b"))
    assert outcomes(step) == {"a": "no_capable_model", "b": "haiku-1"}


def test_decisions_stand_in_the_order_of_service_then_waits() -> None:
    """A reader of the journal sees who was served first."""
    rig = RouterRig()
    step = rig.hand_in(task("low", priority=1), task("high", priority=99), task("mid"), slot("haiku-1"))
    assert [one.task_id for one in step.decisions] == ["high", "low", "mid"]
    assert [one.position for one in step.decisions] == [None, 2, 1]
