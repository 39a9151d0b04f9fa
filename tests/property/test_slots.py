"""Whichever slots are free, the least used is the one that a comparison of all of them would find."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.vocabulary import Millis
from streams.core.index.free_slots import FreeSlots
from streams.core.index.undo import Undo
from streams.core.state.utilisation import SHORT_MS, BusyCurve
from tests.support.builders import START_MS

STEP_MS = SHORT_MS // 10
SLOTS = [f"haiku-{number}" for number in range(1, 13)]
PASSED_MS = st.one_of(
    st.sampled_from([0, 0, 1, 1_000, 60_000, SHORT_MS - 1, SHORT_MS, SHORT_MS + 1]), st.integers(0, 100_000)
)


class HistoryEntry(NamedTuple):
    """What happens at one moment: slots come, go or fall free; so many are looked for, and some of those get work."""

    passed_ms: int
    coming: list[str]
    going: list[str]
    done: list[int]
    wanted: int
    given_work: list[bool]


MOMENTS = st.lists(
    st.builds(
        HistoryEntry,
        PASSED_MS,
        st.lists(st.sampled_from(SLOTS), max_size=5),
        st.lists(st.sampled_from(SLOTS), max_size=1),
        st.lists(st.integers(0, 11), max_size=4),
        st.integers(0, 5),
        st.lists(st.booleans(), min_size=5, max_size=5),
    ),
    max_size=40,
)


class Fleet:
    """Slots, each with the intervals in which it was busy since it came; the index receives every change."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.busy: dict[str, list[tuple[int, int]]] = {}
        self.leased: dict[str, int] = {}
        self.free: set[str] = set()
        self.curves: dict[str, BusyCurve] = {}
        self.undo = Undo()
        self.index = FreeSlots(self.curves, STEP_MS, self.undo)

    def come(self, slot_id: str) -> None:
        """The slot is there and free, unless it was there before."""
        if slot_id not in self.busy:
            self.busy[slot_id] = []
            self.set_free(slot_id)

    def go(self, slot_id: str) -> None:
        """The slot leaves, and with it what is known of it."""
        if self.busy.pop(slot_id, None) is not None:
            self.leased.pop(slot_id, None)
            self.free.discard(slot_id)
            self.curves.pop(slot_id, None)
            self.index.remove(slot_id)

    def set_free(self, slot_id: str) -> None:
        """The slot falls free now."""
        self.free.add(slot_id)
        self.index.add(slot_id, Millis(self.now_ms))

    def hold(self, slot_id: str) -> None:
        """The slot gets work now."""
        self.free.discard(slot_id)
        self.index.remove(slot_id)
        self.leased[slot_id] = self.now_ms
        self.curves.setdefault(slot_id, BusyCurve()).change(Millis(self.now_ms), 1)

    def end(self, slot_id: str) -> None:
        """The slot's work ends now."""
        self.busy[slot_id].append((self.leased.pop(slot_id), self.now_ms))
        self.curves[slot_id].change(Millis(self.now_ms), -1)
        self.set_free(slot_id)

    def busy_ms(self, slot_id: str) -> int:
        """Busy time of the last five minutes, added up."""
        from_ms = self.now_ms - SHORT_MS
        return sum(max(0, end_ms - max(begin_ms, from_ms)) for begin_ms, end_ms in self.busy[slot_id])


@pytest.mark.rule("strategy.cheapest_capable", "amend.41")
@given(MOMENTS)
def test_the_least_used_free_slot_is_found_without_a_comparison_of_all(moments: list[HistoryEntry]) -> None:
    """Busy time of the last five minutes, in steps, then the id; what is hidden is skipped until it is released."""
    fleet = Fleet()
    for moment in moments:
        fleet.now_ms += moment.passed_ms
        for slot_id in moment.going:
            fleet.go(slot_id)
        for slot_id in moment.coming:
            fleet.come(slot_id)
        for pick in moment.done:
            if fleet.leased:
                fleet.end(sorted(fleet.leased)[pick % len(fleet.leased)])
        assert len(fleet.index) == len(fleet.free)
        hidden: list[str] = []
        for _ in range(moment.wanted):
            left = fleet.free.difference(hidden)
            found = fleet.index.least_used(Millis(fleet.now_ms))
            if not left:
                assert found is None
                break
            assert found == min((fleet.busy_ms(slot_id) // STEP_MS, slot_id) for slot_id in left)
            hidden.append(found[1])
            fleet.index.take(found[1])
        fleet.undo.run()
        for slot_id, given_work in zip(hidden, moment.given_work, strict=False):
            if given_work:
                fleet.hold(slot_id)


@given(st.lists(st.integers(0, 2 * SHORT_MS), min_size=2, max_size=12), st.lists(PASSED_MS, max_size=20))
def test_the_least_used_changes_as_busy_time_falls_out_of_the_window(
    leased_ms: list[int], passed_ms: list[int]
) -> None:
    """Nothing happens but time: long leases of the past weigh less and less, and at last the ids decide."""
    fleet = Fleet()
    for slot_id, ms in zip(SLOTS, leased_ms, strict=False):
        fleet.come(slot_id)
        fleet.hold(slot_id)
        fleet.now_ms += ms
        fleet.end(slot_id)
    for ms in [*passed_ms, SHORT_MS]:
        fleet.now_ms += ms
        expected = min((fleet.busy_ms(slot_id) // STEP_MS, slot_id) for slot_id in fleet.free)
        assert fleet.index.least_used(Millis(fleet.now_ms)) == expected
    assert fleet.index.least_used(Millis(fleet.now_ms)) == (0, min(fleet.free))
