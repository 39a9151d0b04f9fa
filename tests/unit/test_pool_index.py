"""The index of a pool has only tasks that wait, each on its side of the percentiles."""

from __future__ import annotations

import pytest

from schemas.decision import Percentiles
from schemas.events import ModelDrained
from schemas.vocabulary import Millis, from_millis
from tests.support.builders import START_MS, task
from tests.support.router_rig import RouterRig, outcomes


def test_those_who_left_do_not_stay_on_the_lists() -> None:
    """The lists do not grow: ten tasks wait while four hundred pass through one slot."""
    rig = RouterRig("haiku-1")
    rig.hand_in(*(task(f"first-{n}") for n in range(11)))
    for n in range(400):
        rig.hand_in(task(f"next-{n}"))
        slot = rig.row("haiku-1")
        assert slot is not None
        assert slot.task_id is not None
        rig.ends(slot.task_id)
    index = rig.router._indexes["main"]
    assert len(index.entries) == 10
    listed = sum(len(told.line) for group in index.groups.values() for told in group.announced.values())
    assert listed <= 2 * len(index.entries) + 65


def test_lists_that_were_looked_through_still_have_everybody_who_waits() -> None:
    """Three wait while two hundred pass; then the reason changes, and the three are announced, each once."""
    rig = RouterRig("haiku-1")
    rig.hand_in(*(task(f"waits-{n}") for n in range(3)), task("passes", priority=99))
    for n in range(200):
        rig.hand_in(task(f"next-{n}", priority=99))
        slot = rig.row("haiku-1")
        assert slot is not None
        assert slot.task_id is not None
        rig.ends(slot.task_id)
    drained = ModelDrained(control_id="c", model="haiku", by="ops", at=from_millis(START_MS))
    assert outcomes(rig.hand_in(drained)) == {f"waits-{n}": "drained" for n in range(3)}
    assert rig.wait(1).decisions == ()


@pytest.mark.parametrize("ev", [-300.0, -0.5, 0.0, 0.25, 0.75, 300.0])
def test_a_percentile_passes_by_small_and_negative_values_too(ev: float) -> None:
    """From above it to below it the task is lifted, and back; a value far away is left where it is."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("in-the-way"))
    rig.hand_in(task("waits", ev=ev), task("far", ev=9_000.0))
    index = rig.router._indexes["main"]
    cells = index.fleet.bit.keys()
    for shift, want in ((0.125, False), (-0.125, True), (0.125, False), (-100.0, True)):
        percentiles = Percentiles(pool="main", at_ms=Millis(START_MS), samples=9, p50=-500.0, p90=ev + shift)
        index.align(cells, cells, percentiles, index.pool.marks, {}, {}, 1, Millis(START_MS))
        assert index.entries["waits"].group.lifted == want
        assert index.entries["far"].group.lifted


def test_places_in_the_line_count_lifted_tasks_first() -> None:
    """Each wait says how many are served before it, and itself."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("in-the-way"))
    places = [
        ("plain", {"priority": 50}, 1),
        ("later", {"priority": 40}, 2),
        ("quest", {"priority": 0, "quest_priority": 95}, 1),
        ("quest-2", {"priority": 10, "quest_priority": 95}, 1),
        ("quest-3", {"priority": 5, "quest_priority": 95}, 2),
        ("last", {"priority": 45}, 5),
    ]
    for task_id, told, want in places:
        (said,) = rig.hand_in(task(task_id, **told)).decisions
        assert (task_id, said.position) == (task_id, want)


def test_among_many_a_lifted_task_has_lifted_ones_before_it_only() -> None:
    """An upper bound: forty quests, and sixty others that it does not count."""
    rig = RouterRig("haiku-1")
    rig.hand_in(*(task(f"q-{n}", quest_priority=95) for n in range(41)), *(task(f"t-{n}") for n in range(60)))
    (lifted,) = rig.hand_in(task("quest", quest_priority=95)).decisions
    (plain,) = rig.hand_in(task("plain")).decisions
    assert (lifted.position, plain.position) == (41, 102)


def test_a_percentile_that_passes_by_takes_along_who_stood_at_it() -> None:
    """An EV of 5 is not above a P90 of 4.999999999999999, and it is above one of 3."""
    rig = RouterRig("haiku-1")
    rig.hand_in(task("in-the-way"))
    rig.hand_in(task("waits", ev=5.0))
    index = rig.router._indexes["main"]
    cells = index.fleet.bit.keys()

    def percentiles(p90: float) -> Percentiles:
        return Percentiles(pool="main", at_ms=Millis(START_MS), samples=9, p50=1.0, p90=p90)

    index.align(cells, cells, percentiles(4.999999999999999), index.pool.marks, {}, {}, 1, Millis(START_MS))
    assert not index.entries["waits"].group.lifted
    index.align(cells, cells, percentiles(3.0), index.pool.marks, {}, {}, 1, Millis(START_MS))
    assert index.entries["waits"].group.lifted
