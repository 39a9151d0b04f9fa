"""Off-policy estimates on synthetic logs whose truth is known: unbiased, intervals that cover as often as they say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from statistics import fmean

import pytest
from msgspec.structs import replace

from streams.estimate.interval import Interval, of_mean
from streams.estimate.logged_choice import LoggedChoice
from streams.estimate.off_policy import doubly_robust, effective_sample_size, estimates, ips, snips
from streams.estimate.support import SAMPLE_MIN, needed, refusal

DRAWS = 1_000
CHOICES = 400
ACTIONS = ("opus", "sonnet", "haiku")
#: By kind of work: how common it is, the probabilities of the policy in force, those of the other one, and rewards.
KINDS: dict[str, tuple[float, tuple[float, ...], tuple[float, ...], tuple[float, ...]]] = {
    "docs": (0.5, (0.35, 0.35, 0.30), (0.0, 0.0, 1.0), (0.98, 0.97, 0.95)),
    "code": (0.3, (0.20, 0.60, 0.20), (0.0, 1.0, 0.0), (0.80, 0.60, 0.20)),
    "architecture": (0.2, (0.65, 0.20, 0.15), (0.8, 0.2, 0.0), (0.50, 0.20, 0.02)),
}
TRUTH = sum(
    share * sum(p * r for p, r in zip(target, rewards, strict=True)) for share, _, target, rewards in KINDS.values()
)


def logged(chance: random.Random, count: int = CHOICES) -> list[LoggedChoice]:
    """Draw choices of the policy in force, with a reward of 0 or 1 each."""
    kinds = chance.choices(list(KINDS), [one[0] for one in KINDS.values()], k=count)
    made = []
    for kind in kinds:
        _, propensities, target, rewards = KINDS[kind]
        place = chance.choices(range(len(ACTIONS)), propensities)[0]
        reward = float(chance.random() < rewards[place])
        choice = LoggedChoice(
            (kind,), ACTIONS[place], propensities[place], reward, dict(zip(ACTIONS, target, strict=True))
        )
        made.append(choice)
    return made


@pytest.fixture(scope="module")
def draws() -> list[list[LoggedChoice]]:
    """Give a thousand logs of the same truth."""
    chance = random.Random(20261129)
    return [logged(chance) for _ in range(DRAWS)]


@pytest.mark.parametrize("estimate", [ips, snips, doubly_robust])
def test_estimates_are_unbiased_and_their_intervals_cover(
    estimate: Callable[[Sequence[LoggedChoice]], Interval], draws: list[list[LoggedChoice]]
) -> None:
    """The mean of a thousand estimates is the truth within its error; 93 to 97 % of the intervals have it in them."""
    found = [estimate(one) for one in draws]
    mean = of_mean([one.value for one in found])
    assert abs(mean.value - TRUTH) < 2 * (mean.high - mean.low)
    assert 0.93 <= fmean(one.covers(TRUTH) for one in found) <= 0.97


def test_each_estimate_is_narrower_than_the_one_before(draws: list[list[LoggedChoice]]) -> None:
    """Dividing by the weights helps, and so does a model of the rewards."""
    wide = [fmean(one.high - one.low for one in map(estimate, draws[:100])) for estimate in (ips, snips, doubly_robust)]
    assert wide == sorted(wide, reverse=True)
    assert wide[2] < 0.95 * wide[1]


def test_the_mean_of_what_agrees_is_no_estimate(draws: list[list[LoggedChoice]]) -> None:
    """Without propensities, work whose choice was likely counts too often: wrong, and sure of it."""
    found = [of_mean([one.reward for one in some if one.target[one.action] > 0.0]) for some in draws]
    assert abs(fmean(one.value for one in found) - TRUTH) > 0.01
    assert fmean(one.covers(TRUTH) for one in found) < 0.93


def test_a_wrong_model_does_not_bias_the_doubly_robust_estimate(draws: list[list[LoggedChoice]]) -> None:
    """Without contexts the model of the rewards is wrong; the propensities put it right."""
    found = [doubly_robust([replace(one, context=()) for one in some]) for some in draws[:300]]
    mean = of_mean([one.value for one in found])
    assert abs(mean.value - TRUTH) < 2 * (mean.high - mean.low)


def test_weights_that_differ_say_less() -> None:
    """Equal weights count fully; one weight that is ten times the others is nearly all there is."""
    assert effective_sample_size([2.0] * 50) == pytest.approx(50)
    assert effective_sample_size([1.0, 1.0, 10.0]) == pytest.approx(144 / 102)
    assert effective_sample_size([0.0, 0.0]) == 0


def test_a_small_log_by_hand() -> None:
    """Two choices of one kind, one of which the other policy would have made."""
    some = [
        LoggedChoice((), "opus", 0.5, 1.0, {"opus": 1.0}),
        LoggedChoice((), "haiku", 0.5, 0.0, {"opus": 1.0}),
        LoggedChoice((), "opus", 0.5, 0.0, {"opus": 1.0}),
    ]
    found = estimates(some)
    assert found.ips.value == pytest.approx(2 / 3)
    assert found.snips.value == pytest.approx(1 / 2)
    assert found.effective_sample_size == pytest.approx(2)
    assert found.logged.value == pytest.approx(1 / 3)


def test_a_log_with_support_is_not_refused(draws: list[list[LoggedChoice]]) -> None:
    """These logs were explored enough."""
    assert [refusal(one) for one in draws[:50]] == [None] * 50


def test_a_policy_without_chance_supports_no_estimate() -> None:
    """Propensity 1 and another choice: nothing is known of it, and the sentence says what would be needed."""
    same = LoggedChoice((), "haiku", 1.0, 1.0, {"haiku": 1.0})
    changed = LoggedChoice((), "haiku", 1.0, 1.0, {"opus": 1.0})
    assert refusal([same] * 200) is None
    said = refusal([same] * 150 + [changed] * 50)
    assert said is not None
    assert "on 50 of 200 choices the policy in force left nothing to chance" in said
    assert "With 2 models that carries an estimate after 4,000 choices that differ, about 16,000 choices" in said


def test_a_small_effective_sample_is_refused() -> None:
    """Rare matches of large weight say as much as a few choices would."""
    rare = LoggedChoice((), "opus", 0.01, 1.0, {"opus": 1.0})
    other = LoggedChoice((), "haiku", 0.99, 1.0, {"opus": 1.0})
    said = refusal([rare] * 5 + [other] * 495)
    assert said is not None
    assert "weigh as much as 5 would" in said
    assert str(SAMPLE_MIN) in said


def test_choices_that_were_never_made_are_found_by_the_mean_weight() -> None:
    """Half of the other policy's choices have no counterpart: the weights have a mean of a half."""
    match = LoggedChoice((), "haiku", 0.5, 1.0, {"haiku": 0.5, "opus": 0.5})
    other = LoggedChoice((), "sonnet", 0.5, 1.0, {"haiku": 0.5, "opus": 0.5})
    said = refusal([match, other] * 400)
    assert said is not None
    assert "mean 0.50 instead of 1, so about 50% of its choices" in said


def test_nothing_to_estimate_from_is_said() -> None:
    """An empty window has no estimate, and needs no rate of changes."""
    said = refusal([])
    assert said is not None
    assert "No choice of the window" in said
    assert "about" not in needed([])
