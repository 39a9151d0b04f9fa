"""EV percentiles are exact for few samples, close for many, and do not depend on when they are read."""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from statistics import quantiles

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.vocabulary import Millis
from streams.core.policy.ev import QUANTILE_GRID
from streams.core.state.ev_percentiles import MINUTE_MS, EvWindow
from tests.support.builders import START_MS

HOUR_MS = 60 * MINUTE_MS
EXACT_MAX = 500
#: What a percentile's rank may be off by among many samples.
RANK_OFF = 0.01
#: What rounding may cost, relative to the value.
ROUNDED = 1e-9

EVS = st.one_of(st.sampled_from([0.0, 1.0, 5.0]), st.floats(-1e6, 1e6))
#: (milliseconds after the one before, EV)
SAMPLES = st.lists(st.tuples(st.sampled_from([0, 0, 100, 5_000, MINUTE_MS]), EVS), max_size=60)
SHAPES: dict[str, Callable[[random.Random], float]] = {
    "lognormal": lambda rnd: rnd.lognormvariate(1.0, 2.0),
    "uniform": lambda rnd: rnd.uniform(-10.0, 10.0),
    "few values": lambda rnd: float(rnd.randrange(5)),
    "two far apart": lambda rnd: rnd.choice([0.0, 1e6]) + rnd.random(),
}


@pytest.mark.rule("detail.11")
@given(st.lists(EVS, min_size=2, max_size=40), st.integers(1, 12), st.integers(0, 30_000))
def test_percentiles_of_up_to_five_hundred_samples_are_exact(evs: list[float], times: int, pace_ms: int) -> None:
    """Linear interpolation between the neighbours, as `statistics.quantiles` has it; within one minute or many."""
    window = EvWindow(HOUR_MS)
    samples = [ev + round_number for round_number in range(times) for ev in evs][:EXACT_MAX]
    pace_ms = min(pace_ms, HOUR_MS // len(samples))
    now_ms = START_MS
    for ev in samples:
        window.add(Millis(now_ms), ev)
        now_ms += pace_ms
    digest = window.merged(Millis(now_ms))
    assert digest.n_values == len(samples)
    expected = [min(samples), *quantiles(samples, n=100, method="inclusive"), max(samples)]
    assert digest.quantile_vec(QUANTILE_GRID) == pytest.approx(expected, rel=ROUNDED, abs=1e-6)


@pytest.mark.rule("percentiles")
@settings(max_examples=max(5, settings().max_examples // 12))
@given(st.integers(0, 2**32), st.sampled_from(sorted(SHAPES)), st.sampled_from([0, 1, HOUR_MS]))
def test_percentiles_of_many_samples_are_off_by_a_hundredth_of_the_rank_at_most(
    seed: int, shape: str, within_ms: int
) -> None:
    """20 000 samples at one moment or over the hour: the value of each percentile has that rank, within one percent."""
    rnd, count = random.Random(seed), 20_000
    window, samples = EvWindow(HOUR_MS), [SHAPES[shape](rnd) for _ in range(count)]
    for place, ev in enumerate(samples):
        window.add(Millis(START_MS + place * within_ms // count), ev)
    digest = window.merged(Millis(START_MS + within_ms))
    assert digest.n_values == count
    samples.sort()
    for rank, value in zip(QUANTILE_GRID, digest.quantile_vec(QUANTILE_GRID), strict=True):
        # Of equal samples any rank is right; a mean of many of them is off by some last digits.
        near = ROUNDED * max(1.0, abs(value))
        low, high = bisect_left(samples, value - near) / count, bisect_right(samples, value + near) / count
        assert low - RANK_OFF <= rank <= high + RANK_OFF


@settings(max_examples=max(10, settings().max_examples // 3))
@given(st.integers(0, 2**32), st.integers(0, 1_500), st.sampled_from([0, 30, 1_000]), st.data())
def test_looking_at_percentiles_and_snapshots_changes_nothing(
    seed: int, count: int, pace_ms: int, data: st.DataObject
) -> None:
    """The same samples give the same bytes, with or without percentiles, dumps and restores in between.

    Two windows take the same samples; one of them is looked at and replaced by its dump again and again.
    """
    rnd = random.Random(seed)
    looks = data.draw(st.dictionaries(st.integers(0, count), st.sampled_from(["merge", "more", "dump", "load"])))
    alone, watched, now_ms = EvWindow(HOUR_MS), EvWindow(HOUR_MS), START_MS
    for place in range(count):
        ev = rnd.lognormvariate(1.0, 1.0)
        now_ms += pace_ms
        alone.add(Millis(now_ms), ev)
        watched.add(Millis(now_ms), ev)
        match looks.get(place):
            case "merge":
                watched.merged(Millis(now_ms)).quantile(0.5)
            case "more":
                watched.merged(Millis(now_ms), [(Millis(now_ms), 1e9)]).to_bytes()
            case "dump":
                list(watched.dump())
            case "load":
                fresh = EvWindow(HOUR_MS)
                fresh.load(list(watched.dump()))
                watched = fresh
    assert list(watched.dump()) == list(alone.dump())
    assert watched.merged(Millis(now_ms)).to_bytes() == alone.merged(Millis(now_ms)).to_bytes()


@given(SAMPLES, st.integers(0, HOUR_MS))
def test_samples_count_for_an_hour_and_the_minute_that_it_begins_in(
    samples: list[tuple[int, float]], later_ms: int
) -> None:
    """The oldest minute counts as a whole while any part of it is inside; samples of the step itself count too."""
    window, now_ms, known = EvWindow(HOUR_MS), START_MS, list[tuple[int, float]]()
    for after_ms, ev in samples:
        now_ms += after_ms
        known.append((now_ms, ev))
        window.add(Millis(now_ms), ev)
    now_ms += later_ms
    more = [(Millis(now_ms), 1.0)]
    inside = [ev for at_ms, ev in [*known, *more] if at_ms // MINUTE_MS >= (now_ms - HOUR_MS) // MINUTE_MS]
    digest = window.merged(Millis(now_ms), more)
    assert digest.n_values == len(inside) == window.count(Millis(now_ms)) + len(more)
    restored = EvWindow(HOUR_MS)
    restored.load(list(window.dump()))
    assert restored.count(Millis(now_ms)) == window.count(Millis(now_ms))
    assert (digest.min(), digest.max()) == (min(inside), max(inside))
