"""A task that waits knows why: one headline, a verdict of every model, and news when the headline changes."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest

from schemas.decision import Decision
from schemas.events import TaskPending
from tests.support.builders import START_MS, retired, rulebook, slot, task
from tests.support.percentiles import percentiles
from tests.support.router_rig import RouterRig, outcomes

FIVES = (5.0,) * 5


def verdicts(decision: Decision) -> dict[str, str]:
    """Give each model's verdict."""
    return {model: verdict["gate"] for model, verdict in json.loads(bytes(decision.alternatives)).items()}


class Case(NamedTuple):
    """What a task waits for, on which fleet with which of its slots leased, and what is said."""

    task: TaskPending
    slots: tuple[str, ...]
    want: str
    want_verdicts: dict[str, str]
    want_reason: str
    leased: tuple[str, ...] = ()


HEADLINES = {
    "an empty fleet": Case(task(), (), "no_capable_model", {}, "The pool has no slot yet."),
    "nothing is good enough": Case(
        task(requires={"coding": 8, "safety": 8}),
        ("haiku-1", "glm-1"),
        "no_capable_model",
        {"haiku": "capability", "glm": "capability"},
        "No model of the fleet is good enough for coding>=8, safety>=8 "
        "(haiku: coding 5 < 8, safety 7 < 8; glm: coding 3 < 8, safety 3 < 8).",
    ),
    "it fits nothing": Case(
        task(input_tokens=5_000_000),
        ("opus-1",),
        "context",
        {"opus": "context"},
        "It fits no capable model's context window: 5000000 input tokens and the answer.",
    ),
    "its boundaries leave nothing": Case(
        task(deny_providers=("anthropic",)),
        ("haiku-1",),
        "boundary",
        {"haiku": "boundary"},
        "No capable model of the fleet is allowed. The task denies anthropic.",
    ),
    "everything is below its floor": Case(
        task(floor_model="opus"),
        ("haiku-1", "sonnet-1"),
        "floor",
        {"sonnet": "floor", "haiku": "floor"},
        "Every capable model of the fleet is below its floor: floor_model opus asks for tier 3.",
    ),
    "the reason of the model that got furthest": Case(
        task(requires={"coding": 8}, max_tier=2, floor_model="sonnet"),
        ("haiku-1", "opus-1"),
        "boundary",
        {"opus": "boundary", "haiku": "capability"},
        "No capable model of the fleet is allowed. opus is of tier 3, and the task's max_tier is 2.",
    ),
    "what may do it is busy": Case(
        task(),
        ("haiku-1",),
        "capable_busy",
        {"haiku": "busy"},
        "Every slot that may do it is busy: haiku.",
        ("haiku-1",),
    ),
    "one is busy, one is not good enough": Case(
        task(requires={"coding": 8}),
        ("sonnet-1", "haiku-1"),
        "capable_busy",
        {"sonnet": "busy", "haiku": "capability"},
        "Every slot that may do it is busy: sonnet.",
        ("sonnet-1",),
    ),
    "a free opus is kept for others": Case(
        task(ev=1.5),
        ("opus-1", "haiku-1"),
        "reserved_for_ev",
        {"opus": "premium", "haiku": "busy"},
        "opus is kept for tasks above P50 (5); this one has EV 1.5.",
        ("haiku-1",),
    ),
    "a free opus is kept for others, and its EV is unknown": Case(
        task(),
        ("opus-1", "haiku-1"),
        "reserved_for_ev",
        {"opus": "premium", "haiku": "busy"},
        "opus is kept for tasks above P50 (5); its EV is unknown.",
        ("haiku-1",),
    ),
    "opus is kept for others and busy as well": Case(
        task(ev=1.5),
        ("opus-1", "haiku-1"),
        "capable_busy",
        {"opus": "premium", "haiku": "busy"},
        "Every slot that may do it is busy: haiku.",
        ("opus-1", "haiku-1"),
    ),
}


@pytest.mark.rule(
    "wait.verdicts",
    "wait.headline",
    "reason.no_capable_model",
    "reason.capable_busy",
    "reason.reserved_for_ev",
    "reason.boundary",
    "reason.context",
    "reason.floor",
)
@pytest.mark.parametrize("case", HEADLINES.values(), ids=HEADLINES.keys())
def test_a_wait_begins_with_a_headline_and_all_verdicts(case: Case) -> None:
    """P50 is 5 wherever there is a fleet."""
    rig = RouterRig(*case.slots)
    for slot_id in case.leased:
        rig.hand_in(task(f"on-{slot_id}", floor_model=slot_id[:-2], max_tier=rig.book.models[slot_id[:-2]].tier))
    if case.slots:
        percentiles(rig, *FIVES)
    (said,) = rig.hand_in(case.task).decisions
    assert (said.outcome, said.reason_code) == ("waiting", case.want)
    assert verdicts(said) == case.want_verdicts
    assert said.reason.startswith(case.want_reason)
    assert (said.position, said.chosen_slot_id, said.lease, said.tier) == (1, None, None, None)


@pytest.mark.rule("wait.announced")
def test_a_wait_whose_headline_stays_is_announced_once() -> None:
    """Whatever else happens in the pool."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("running", priority=99), task("a"))
    rig.wait(600)
    step = rig.hand_in(slot("haiku-2"), task("b", priority=99))
    assert outcomes(step) == {"b": "haiku-2"}
    rig.ends("b")
    assert [one.reason_code for one in rig.decisions("a")] == ["capable_busy", "cheapest_capable"]


def test_a_wait_is_announced_again_when_its_headline_changes() -> None:
    """Once for each change: no fleet, not good enough, busy, gone."""
    rig = RouterRig()
    rig.hand_in(task("a", requires={"coding": 8}, max_tier=2))
    rig.hand_in(slot("opus-1"))
    rig.hand_in(task("b", requires={"coding": 8}, max_tier=2, priority=99))
    rig.hand_in(slot("sonnet-1"))
    assert rig.headline("a") == "capable_busy"
    rig.hand_in(retired("sonnet-1"))
    assert [one.reason_code for one in rig.decisions("a")] == [
        "no_capable_model", "boundary", "capable_busy", "boundary",
    ]  # fmt: skip
    assert len({one.decision_id for one in rig.decisions("a")}) == 4


def test_a_reserved_wait_becomes_busy_when_opus_is_taken() -> None:
    """And reserved again when it is free again."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *FIVES)
    rig.hand_in(task("low", ev=1.0))
    rig.hand_in(task("high", ev=9.0))
    rig.ends("high")
    assert [one.reason_code for one in rig.decisions("low")] == [
        "reserved_for_ev",
        "capable_busy",
        "reserved_for_ev",
    ]


def test_reserved_waits_are_looked_at_again_when_percentiles_may_be_new() -> None:
    """The router knows beforehand when that is; with a lower P50 opus is for this task too."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, 1.0, 1.0, 5.0, 5.0, 5.0)
    rig.hand_in(task("low", ev=2.0))
    percentiles(rig, *(1.0,) * 3)
    assert rig.router.due_ms() == START_MS + 120_000
    assert rig.wait(119.999).decisions == ()
    assert outcomes(rig.wait(0.001)) == {"low": "opus-1"}


@pytest.mark.rule("detail.12")
def test_a_reserved_wait_is_not_announced_again_when_new_percentiles_give_the_same() -> None:
    """The next look is two minutes later."""
    rig = RouterRig("opus-1", "haiku-1")
    rig.hand_in(task("in-the-way"))
    percentiles(rig, *FIVES)
    rig.hand_in(task("low", ev=2.0))
    step = rig.wait(120)
    assert step.decisions == ()
    assert len(step.percentiles) == 1
    assert rig.router.due_ms() == START_MS + 240_000


def test_nothing_is_due_where_nothing_waits_for_time() -> None:
    """No ticks for an idle pool; a busy wait needs none before a lease ends."""
    rig = RouterRig("haiku-1")
    percentiles(rig, *FIVES)
    assert rig.router.due_ms() is None
    rig.hand_in(task("a"), task("b"))
    assert rig.router.due_ms() == START_MS + 1_800_000


def test_the_earliest_of_all_is_due() -> None:
    """Leases, deadlines and delayed tasks of all pools."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("running"))
    dues = []
    for i, (name, after_ms) in enumerate({"deadline_ms": 90_000, "not_before_ms": 60_000}.items()):
        rig.hand_in(task(f"t-{i}", pool=f"side-{i}", **{name: START_MS + after_ms}))
        dues.append(rig.router.due_ms())
    assert dues == [START_MS + 90_000, START_MS + 60_000]


@pytest.mark.rule("wait.announced", "policy.service")
def test_headlines_that_change_are_announced_within_an_allowance() -> None:
    """Three at once, then one a second by ticks, longest waiting first."""
    rig = RouterRig(book=rulebook(service={"announcements_max": 3, "announcements_per_s": 1.0}))
    rig.hand_in(*(task(f"t-{i}", at_ms=START_MS - i) for i in range(8)))
    rig.hand_in(slot("haiku-1"), task("first", priority=99))
    assert outcomes(rig.steps[-1]) == {"first": "haiku-1", "t-7": "capable_busy", "t-6": "capable_busy",
                                        "t-5": "capable_busy"}  # fmt: skip
    told = []
    while (due_ms := rig.router.due_ms()) is not None and due_ms <= rig.now_ms + 1_000:
        step = rig.wait((due_ms - rig.now_ms) / 1000)
        assert len(step.decisions) <= 1
        told += [one.task_id for one in step.decisions]
    assert told == ["t-4", "t-3", "t-2", "t-1", "t-0"]
    assert rig.now_ms - START_MS <= 6_000
    assert len(rig.decisions()) == 8 + 1 + 8


def test_first_waits_need_no_allowance() -> None:
    """Every wait is announced at once."""
    rig = RouterRig(book=rulebook(service={"announcements_max": 1, "announcements_per_s": 1.0}))
    step = rig.hand_in(*(task(f"t-{i}") for i in range(20)))
    assert len(step.decisions) == 20
    assert step.unannounced == ()


def test_a_late_announcement_has_the_latest_headline_only() -> None:
    """Where it is the announced headline again, nothing is announced."""
    rig = RouterRig(book=rulebook(service={"announcements_max": 1, "announcements_per_s": 1.0}))
    rig.hand_in(*(task(f"t-{i}", requires={"coding": 8}) for i in range(3)), task("first", max_tier=1))
    rig.hand_in(slot("haiku-1"))
    rig.hand_in(slot("sonnet-1"), task("urgent", priority=99, requires={"coding": 8}))
    rig.hand_in(retired("sonnet-1"))
    for _ in range(6):
        rig.wait(1)
    told = {f"t-{i}": [one.reason_code for one in rig.decisions(f"t-{i}")] for i in range(3)}
    again = ["no_capable_model", "capable_busy", "no_capable_model"]
    assert told == {"t-0": again, "t-1": ["no_capable_model"], "t-2": ["no_capable_model"]}


@pytest.mark.rule("wait.announced")
def test_the_position_is_exact_among_few() -> None:
    """In the order in which they would be served; the one that runs does not count."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("running"))
    rig.hand_in(task("a"))
    step = rig.hand_in(task("b", priority=60), task("c", priority=40), task("d", quest_priority=95))
    assert {one.task_id: one.position for one in step.decisions} == {"d": 1, "b": 2, "c": 4}


def test_the_position_among_many_is_no_less_than_it_is() -> None:
    """An upper bound, and never more than there are."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("running"))
    rig.hand_in(*(task(f"t-{i:02}", priority=i) for i in range(40)))
    (said,) = rig.hand_in(task("last", priority=20)).decisions
    assert said.position is not None
    assert 20 <= said.position <= 41


def test_a_wait_counts_from_when_it_was_accepted() -> None:
    """What the producer said stands beside it."""
    rig = RouterRig()
    (said,) = rig.hand_in(task("a", at_ms=START_MS - 60_000)).decisions
    assert (said.at_ms, said.waiting_since_ms) == (START_MS - 60_000, START_MS)
