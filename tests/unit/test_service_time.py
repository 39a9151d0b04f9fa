"""Service times fitted to work that ended: what a hand finds, their error on work left out, and stuck agents."""

from __future__ import annotations

import random
from collections import Counter
from statistics import median

import pytest

from streams.estimate.cross_validation import cross_validated
from streams.estimate.service_time import OBSERVATIONS_MIN, Observation, ServiceTimes, TooFewOutcomes
from streams.estimate.success import Ending, FailureRates

#: Seconds of work of 1,000 tokens, by model and by kind.
MODELS = {"opus": 40.0, "sonnet": 20.0, "haiku": 8.0}
KINDS = {"simple": 0.5, "standard": 1.0, "expert": 3.0}


def truth(model: str, kind: str, size: float) -> float:
    """Give the median time of such work."""
    return float(MODELS[model] * KINDS[kind] * (size / 1000.0) ** 0.7)


def observed(count: int, *, spread: float = 0.3, stuck: float = 0.0, seed: int = 7) -> list[Observation]:
    """Draw work with lognormal times; a share of it hangs for ten hours."""
    chance = random.Random(seed)
    found = []
    for _ in range(count):
        model, kind = chance.choice(list(MODELS)), chance.choice(list(KINDS))
        size = chance.lognormvariate(6.9, 0.8)
        seconds = truth(model, kind, size) * chance.lognormvariate(0.0, spread)
        if chance.random() < stuck:
            seconds = 36_000.0
        found.append(Observation(model, kind, round(size), seconds))
    return found


def off_by(fitted: ServiceTimes) -> float:
    """Give the largest error of a median, as a share, over models, kinds and sizes."""
    return max(
        abs(fitted.seconds(model, kind, size) / truth(model, kind, size) - 1.0)
        for model in MODELS
        for kind in KINDS
        for size in (400.0, 1_000.0, 2_500.0)
    )


def test_medians_are_found_by_model_class_and_size() -> None:
    """Within 15 % of the truth everywhere, from two thousand pieces of work."""
    assert off_by(ServiceTimes(observed(2_000))) < 0.15


def test_stuck_agents_do_not_move_them() -> None:
    """One in twenty hangs for ten hours: means would be several times too long."""
    work = observed(2_000, stuck=0.05)
    assert off_by(ServiceTimes(work)) < 0.25
    mean = sum(one.seconds for one in work) / len(work)
    assert mean > 20 * median(one.seconds for one in work)


def test_the_error_is_stated_on_work_that_was_left_out() -> None:
    """A spread of 0.3 has a median error of about a fifth; half is below, and the band holds four fifths."""
    found = cross_validated(observed(1_500))
    assert found.median_error == pytest.approx(0.2, abs=0.03)
    assert found.below_share == pytest.approx(0.5, abs=0.04)
    assert found.band_share == pytest.approx(0.8, abs=0.04)
    assert (found.observations, found.parts) == (1_500, 5)
    assert cross_validated(observed(1_500, spread=0.8)).median_error > 2 * found.median_error


def test_little_is_drawn_towards_what_is_known() -> None:
    """A model seen once, at a hundred times the others' time, is not believed; unknown ones are as the middle."""
    work = [Observation("haiku", "simple", 1_000, 10.0)] * 100 + [Observation("opus", "simple", 1_000, 1_000.0)]
    fitted = ServiceTimes(work)
    assert fitted.seconds("haiku", "simple", 1_000) == pytest.approx(10.0)
    assert 10.0 < fitted.seconds("opus", "simple", 1_000) < 100.0
    assert fitted.seconds("glm", "expert", None) == pytest.approx(10.0, rel=0.01)


def test_too_little_work_is_refused_with_what_to_do() -> None:
    """Nineteen pieces are too few, twenty are enough."""
    work = observed(OBSERVATIONS_MIN)
    ServiceTimes(work)
    with pytest.raises(TooFewOutcomes, match=r"^19 ended pieces .* --times recorded\.$"):
        ServiceTimes(work[1:])


def test_work_fails_as_recorded_on_its_model_and_at_each_models_rate_elsewhere() -> None:
    """Haiku fails in 30 of 100, opus in 4 of 100; haiku's work on opus fails at about opus' rate, and only then."""
    endings = [Ending("haiku", "code", n < 300) for n in range(1_000)]
    endings += [Ending("opus", "code", n < 40) for n in range(1_000)]
    rates = FailureRates(endings)
    assert rates.rate("haiku", "code") == pytest.approx(0.3, abs=0.01)
    assert rates.rate("glm", "code") == pytest.approx(0.17)
    chance = random.Random(3)
    some = [(one, chance.random()) for one in endings[:1_000]]
    assert all(rates.fails(one, "haiku", drawn) == one.failed for one, drawn in some)
    on_opus = Counter((one.failed, rates.fails(one, "opus", drawn)) for one, drawn in some)
    assert on_opus[True, True] == pytest.approx(43, abs=15)
    on_haiku = sum(rates.fails(one, "haiku", chance.random()) for one in endings[1_000:])
    assert on_haiku == pytest.approx(300, abs=40)
    # The better model never fails at what the worse one could do.
    assert on_opus[False, True] == 0
