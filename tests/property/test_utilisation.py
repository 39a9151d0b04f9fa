"""How busy something has been is what its intervals add up to, and thinning costs no more than is stated here."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.vocabulary import Millis
from streams.core.state.utilisation import LONG_MS, SHORT_MS, BusyCurve
from tests.support.builders import START_MS

#: What thinning may cost, for each that was busy at once: the distance of the breakpoints that are kept, and of
#: those that a crowded short window keeps before.
THINNED_MS = 30_000 + 1_000
#: Breakpoints above which a curve is thinned; it may have some more while those are too young, never twice as many.
POINTS_MAX = 512
WINDOWS_MS = (1, 60_000, SHORT_MS, LONG_MS)

PASSED_MS = st.one_of(
    st.sampled_from([0, 1, 1_000, 29_999, 30_000, SHORT_MS, LONG_MS]), st.integers(0, 20_000), st.integers(0, 600_000)
)


class Change(NamedTuple):
    """So much later, so many more (or fewer) are busy."""

    passed_ms: int
    by: int


class Watched:
    """A curve, and every change that it received."""

    def __init__(self) -> None:
        self.now_ms = START_MS
        self.level = 0
        self.level_max = 0
        self.changes: list[tuple[int, int]] = []
        self.curve = BusyCurve()

    def change(self, change: Change) -> None:
        """Tell the curve of the change, if as many are busy as it takes away."""
        self.now_ms += change.passed_ms
        if self.level + change.by >= 0:
            self.level += change.by
            self.level_max = max(self.level, self.level_max)
            self.changes.append((self.now_ms, self.level))
            self.curve.change(Millis(self.now_ms), change.by)

    def busy_ms(self, window_ms: int) -> int:
        """Busy time within the window, added up from all intervals."""
        from_ms, busy_ms = self.now_ms - window_ms, 0
        for (begin_ms, level), (end_ms, _) in pairwise([*self.changes, (self.now_ms, self.level)]):
            busy_ms += level * max(0, end_ms - max(begin_ms, from_ms))
        return busy_ms


CHANGES = st.lists(st.builds(Change, PASSED_MS, st.sampled_from([-2, -1, -1, 1, 1, 2])), max_size=60)


@pytest.mark.rule("detail.9")
@given(CHANGES, PASSED_MS)
def test_busy_time_is_exact_while_no_breakpoint_was_thinned_out(changes: list[Change], later_ms: int) -> None:
    """Any window, at each change and some time after the last: the sum of the intervals, to the millisecond."""
    watched = Watched()
    for change in [*changes, Change(later_ms, 0)]:
        watched.change(change)
        for window_ms in WINDOWS_MS:
            assert watched.curve.busy_ms(Millis(watched.now_ms), window_ms) == watched.busy_ms(window_ms)


@settings(max_examples=max(10, settings().max_examples // 2))
@given(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([3, 100, 1_500, 12_000, 40_000, 700_000]), min_size=3, max_size=3),
    st.sampled_from([1, 3, 40]),
)
def test_busy_time_with_thinning_is_off_by_half_a_minute_for_each_busy_at_once(
    seed: int, paces_ms: list[int], level_max: int
) -> None:
    """Some thousand changes at changing paces: 31 s at most, times the most that were busy at once; memory is bounded.

    The end of a window is exact. Its beginning lies between two breakpoints that are kept, and of those between
    them that are not, the last is less than 30 s (in a crowded short window at first: 1 s) after the earlier one.
    """
    rnd, watched = random.Random(seed), Watched()
    for pace_ms in paces_ms:
        for _ in range(400):
            by = -1 if watched.level == level_max or (watched.level and rnd.random() < 0.5) else 1
            watched.change(Change(int(rnd.expovariate(1 / pace_ms)), by))
            assert len(watched.curve._times_ms) < 2 * POINTS_MAX
        for window_ms in (SHORT_MS, LONG_MS):
            off_ms = abs(watched.curve.busy_ms(Millis(watched.now_ms), window_ms) - watched.busy_ms(window_ms))
            assert off_ms <= THINNED_MS * watched.level_max


@pytest.mark.parametrize("after_ms", [5_000, 29_000, 31_000, 59_000])
def test_what_a_thinned_out_breakpoint_costs_is_less_than_the_distance_of_those_kept(after_ms: int) -> None:
    """Bursts, each with a long lease that begins soon after: none of those is off by more than the stated bound."""
    watched, worst_ms = Watched(), 0
    for _ in range(5):
        for _ in range(300):
            watched.change(Change(1, 1))
            watched.change(Change(1, -1))
        for window_ms in (SHORT_MS, LONG_MS):
            off_ms = abs(watched.curve.busy_ms(Millis(watched.now_ms), window_ms) - watched.busy_ms(window_ms))
            worst_ms = max(worst_ms, off_ms)
        watched.change(Change(after_ms, 1))
        watched.change(Change(SHORT_MS + 62_000, -1))
    assert worst_ms <= THINNED_MS


@given(st.lists(st.integers(1, SHORT_MS), min_size=1, max_size=40))
def test_a_slot_that_is_busy_all_the_time_is_busy_for_the_whole_window(passed_ms: list[int]) -> None:
    """Lease after lease without a pause: the share is one, and never above, also with thinning."""
    watched = Watched()
    watched.change(Change(0, 1))
    for ms in passed_ms * 20:
        watched.change(Change(ms, -1))
        watched.change(Change(0, 1))
        window_ms = min(LONG_MS, watched.now_ms - START_MS)
        assert watched.curve.busy_ms(Millis(watched.now_ms), window_ms) == window_ms


@given(CHANGES, CHANGES)
def test_a_curve_goes_on_from_its_dump(before: list[Change], after: list[Change]) -> None:
    """A curve made of what another gave for a snapshot takes the same changes to the same lists."""
    watched = Watched()
    for change in before:
        watched.change(change)
    copy = BusyCurve(*watched.curve.dump())
    known = len(watched.changes)
    level = watched.level
    for change in after:
        watched.change(change)
    for at_ms, now_level in watched.changes[known:]:
        copy.change(Millis(at_ms), now_level - level)
        level = now_level
    assert copy.dump() == watched.curve.dump()
