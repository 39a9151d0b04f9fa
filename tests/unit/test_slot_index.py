"""Slots by cell follow the rows of the state: what is in service, what is free, and which was free longest."""

from __future__ import annotations

from typing import Any

import pytest

from streams.core.index.fleet import Cell
from streams.core.router import Router
from tests.support.builders import retired, slot, task
from tests.support.router_rig import RouterRig, picture

HAIKU, OPUS = Cell("haiku", None), Cell("opus", None)
CASES: dict[str, tuple[list[list[Any]], dict[Cell, int], dict[Cell, int]]] = {
    # Events of each step after haiku-1 and haiku-2 announced themselves; slots in service and free slots.
    "announced": ([], {HAIKU: 2}, {HAIKU: 2}),
    "leased": ([[task("a")]], {HAIKU: 2}, {HAIKU: 1}),
    "another model": ([[slot("opus-1")]], {HAIKU: 2, OPUS: 1}, {HAIKU: 2, OPUS: 1}),
    "retired while free": ([[retired("haiku-1")]], {HAIKU: 1}, {HAIKU: 1}),
    "retired while leased": ([[task("a")], [retired("haiku-1")]], {HAIKU: 1}, {HAIKU: 1}),
    "all retired": ([[retired("haiku-1"), retired("haiku-2")]], {}, {}),
}


@pytest.mark.parametrize(("steps", "in_service", "free"), CASES.values(), ids=CASES)
def test_slots_by_cell(steps: list[list[Any]], in_service: dict[Cell, int], free: dict[Cell, int]) -> None:
    """An index that followed every step agrees with one made from the rows."""
    rig = RouterRig("haiku-1", "haiku-2")
    for events in steps:
        rig.hand_in(*events)
    rig.wait(1)
    for router in (rig.router, Router.restore(0, rig.book, picture(rig.router))):
        index = router.indexes["main"]
        slots = index.slots
        assert slots.in_service == in_service
        assert dict(zip(index.fleet.cells, slots.free_counts, strict=True)) == free
        assert slots.free_mask().bit_count() == sum(count > 0 for count in free.values())
        for cell, count in free.items():
            assert len(slots.free(cell)) == count


def test_the_slot_that_was_free_longest_is_the_first_that_is_not_taken() -> None:
    """haiku-2 came first; once it is taken, haiku-1 is; after the decision haiku-2 is again."""
    rig = RouterRig("haiku-2")
    rig.hand_in(slot("haiku-1"), after_s=1)
    index = rig.router.indexes["main"]
    longest = index.slots.longest_free(HAIKU)
    assert longest is not None
    assert longest[1] == "haiku-2"
    index.slots.free(HAIKU).take("haiku-2")
    assert not index.slots.is_free("haiku-2")
    assert index.slots.is_free("haiku-1")
    second = index.slots.longest_free(HAIKU)
    assert second is not None
    assert second[1] == "haiku-1"
    index.release()
    assert index.slots.longest_free(HAIKU) == longest
    assert index.slots.is_free("haiku-2")
