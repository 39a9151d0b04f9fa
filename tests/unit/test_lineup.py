"""The line-up of a pool keeps no more than who waits, and nobody on the wrong side of a percentile."""

from __future__ import annotations

from schemas.decision import Percentiles
from schemas.events import ModelDrained
from schemas.vocabulary import Millis, from_millis
from tests.builders import START_MS, task
from tests.desk import Desk, outcomes


def test_those_who_left_do_not_stay_on_the_lists() -> None:
    """Ten wait all the time while four hundred pass through one slot."""
    desk = Desk("haiku-1")
    desk.hand_in(*(task(f"first-{n}") for n in range(11)))
    for n in range(400):
        desk.hand_in(task(f"next-{n}"))
        slot = desk.row("haiku-1")
        assert slot is not None
        assert slot.task_id is not None
        desk.ends(slot.task_id)
    lineup = desk.router._lineups["main"]
    assert len(lineup.entries) == 10
    listed = sum(len(told.line) for group in lineup.groups.values() for told in group.told.values())
    assert listed <= 2 * len(lineup.entries) + 65


def test_lists_that_were_looked_through_still_have_everybody_who_waits() -> None:
    """Three wait while two hundred pass; then the reason changes, and the three are told, each once."""
    desk = Desk("haiku-1")
    desk.hand_in(*(task(f"waits-{n}") for n in range(3)), task("passes", priority=99))
    for n in range(200):
        desk.hand_in(task(f"next-{n}", priority=99))
        slot = desk.row("haiku-1")
        assert slot is not None
        assert slot.task_id is not None
        desk.ends(slot.task_id)
    drained = ModelDrained(control_id="c", model="haiku", by="ops", at=from_millis(START_MS))
    assert outcomes(desk.hand_in(drained)) == {f"waits-{n}": "drained" for n in range(3)}
    assert desk.wait(1).decisions == ()


def test_a_percentile_that_passes_by_takes_along_who_stood_at_it() -> None:
    """An EV of 5 is not above a P90 of 4.999999999999999, and it is above one of 3."""
    desk = Desk("haiku-1")
    desk.hand_in(task("in-the-way"))
    desk.hand_in(task("waits", ev=5.0))
    lineup = desk.router._lineups["main"]

    def usual(p90: float) -> Percentiles:
        return Percentiles(pool="main", at_ms=Millis(START_MS), samples=9, p50=1.0, p90=p90)

    lineup.align(lineup.fleet.bit.keys(), usual(4.999999999999999), lineup.pool.marks, {}, 1, Millis(START_MS))
    assert not lineup.entries["waits"].group.lifted
    lineup.align(lineup.fleet.bit.keys(), usual(3.0), lineup.pool.marks, {}, 1, Millis(START_MS))
    assert lineup.entries["waits"].group.lifted
