"""A score compares candidates by cost, speed and quality, and ignores differences too small to matter."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.vocabulary import DIMENSIONS, Millis, Objective, Profile
from streams.core.policy.catalog import Model
from streams.core.policy.rulebook import load_rulebook
from streams.core.policy.score import (
    ScorePolicy,
    Weights,
    WeightsByObjective,
    context_penalty,
    mix,
    scores,
    usd_per_mtok,
)
from streams.shipped import shipped
from tests.support.builders import rulebook

BOOK = rulebook()


def model(id_: str = "m", usd: float | None = 1.0, **named: Any) -> Model:
    """Give a model like any other; `usd` is the price of a million tokens in and out."""
    return Model(
        **{
            "id": id_,
            "provider": "p",
            "product": "p",
            "tier": 1,
            "ratings": dict.fromkeys(DIMENSIONS, 5),
            "input_usd_per_mtok": usd,
            "output_usd_per_mtok": usd,
            "speed_tps": 50.0,
            "quality": 0.5,
            "context_window": 1_000,
            "output_tokens_max": 1_000,
            **named,
        }
    )


def policy(**named: Any) -> ScorePolicy:
    """Give the shipped policy with these keys changed."""
    return msgspec.structs.replace(BOOK.policy.score, **named)


def only(dimension: str) -> ScorePolicy:
    """Give a policy that looks at one dimension alone."""
    weights = Weights(**{"cost": 0.0, "speed": 0.0, "quality": 0.0, dimension: 1.0})
    return policy(weights=WeightsByObjective(cost_speed=weights, balanced=weights, quality=weights))


def scored(
    *candidates: Model,
    by: ScorePolicy = BOOK.policy.score,
    objective: Objective = "balanced",
    profile: Profile | None = None,
    mix16: int = 8,
    penalties: tuple[float, ...] | None = None,
    role: str | None = None,
) -> tuple[float, ...]:
    """Give the scores of these candidates."""
    return scores(
        candidates,
        objective=objective,
        profile=profile,
        prices=[usd_per_mtok(model.tariff.rates(0, Millis(0)), 0.0, mix16, 1) for model in candidates],
        penalties=penalties or (0.0,) * len(candidates),
        role=role,
        policy=by,
    )


# The three dimensions.


def test_the_cheapest_the_fastest_and_the_best_have_the_whole_weight() -> None:
    """And the worst of each has nothing of it; what lies between has its share."""
    priced = [model(usd=usd) for usd in (1.0, 2.0, 5.0)]
    assert scored(*priced, by=only("cost")) == (1.0, 0.75, 0.0)
    assert scored(*(model(speed_tps=speed) for speed in (20.0, 50.0, 60.0)), by=only("speed")) == (0.0, 0.75, 1.0)
    assert scored(*(model(quality=share) for share in (0.2, 0.3, 0.6)), by=only("quality")) == (0.0, 0.25, 1.0)


@pytest.mark.rule("score.normalised")
@pytest.mark.parametrize("dimension", ["cost", "speed", "quality"])
def test_candidates_that_are_alike_all_have_the_whole_weight(dimension: str) -> None:
    """One alone, too: there is nothing against it. Free ones are alike as well."""
    assert scored(model(), by=only(dimension)) == (1.0,)
    assert scored(model(), model(), model(), by=only(dimension)) == (1.0, 1.0, 1.0)
    assert scored(model(usd=0.0), model(usd=0.0), by=only(dimension)) == (1.0, 1.0)


def test_no_candidates_have_no_scores() -> None:
    """Where every gate is closed there is nothing to compare."""
    assert scored() == ()


@pytest.mark.rule("score.weights")
@pytest.mark.parametrize(
    ("objective", "want"),
    [("cost_speed", (0.9, 0.1)), ("balanced", (0.6, 0.4)), ("quality", (0.3, 0.7))],
)
def test_the_objective_says_what_counts(objective: Objective, want: tuple[float, float]) -> None:
    """A cheap, fast one against a good one."""
    cheap, good = model(usd=1.0, speed_tps=90.0, quality=0.2), model(usd=9.0, speed_tps=20.0, quality=0.9)
    assert scored(cheap, good, objective=objective) == want


PROFILES: dict[str, tuple[Profile | None, tuple[float, float, float]]] = {
    "none": (None, (0.30, 0.30, 0.40)),
    "fast: 0.33, 0.36 and 0.30 of 0.99": ("fast", (0.33 / 0.99, 0.36 / 0.99, 0.30 / 0.99)),
    "strong: 0.255, 0.27 and 0.50 of 1.025": ("strong", (0.255 / 1.025, 0.27 / 1.025, 0.50 / 1.025)),
}


@pytest.mark.rule("score.weights")
@pytest.mark.parametrize(("profile", "want"), PROFILES.values(), ids=PROFILES.keys())
def test_a_profile_moves_the_weights_and_their_sum_stays_1(
    profile: Profile | None, want: tuple[float, float, float]
) -> None:
    """Multiplied, then brought to a sum of 1 again."""
    weights = BOOK.policy.score.weights_of("balanced", profile)
    assert weights == pytest.approx(want, abs=1e-12)
    assert sum(weights) == pytest.approx(1.0, abs=1e-12)


def test_weights_count_by_their_proportion() -> None:
    """An operator may write 3, 3 and 4."""
    coarse = Weights(cost=3.0, speed=3.0, quality=4.0)
    by = policy(weights=WeightsByObjective(balanced=coarse))
    assert by.weights_of("balanced", None) == pytest.approx((0.30, 0.30, 0.40), abs=1e-12)


# What is no difference.


@pytest.mark.rule("score.guard")
def test_a_cent_is_no_difference() -> None:
    """Two at $3.00 and $3.01 cost the same beside each other, whatever else there is."""
    assert scored(model(usd=3.00), model(usd=3.01), by=only("cost")) == (1.0, 1.0)
    assert scored(model(usd=3.00), model(usd=3.01), model(usd=13.0), by=only("cost")) == (1.0, 1.0, 0.0)


GUARD: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "just under 2 % of the mean": ((99.01, 100.99), (1.0, 1.0)),
    "exactly 2 % of the mean": ((99.0, 101.0), (0.0, 1.0)),
    "just over 2 % of the mean": ((98.99, 101.01), (0.0, 1.0)),
    "each near the last, far from the first": ((99.0, 100.0, 101.5), (0.0, 0.0, 1.0)),
    "one that is far becomes the next to compare with": ((90.0, 100.0, 101.0, 110.0), (0.0, 0.5, 0.5, 1.0)),
}


@pytest.mark.rule("score.guard")
@pytest.mark.parametrize(("speeds", "want"), GUARD.values(), ids=GUARD.keys())
def test_less_than_two_percent_of_the_mean_is_a_tie(speeds: tuple[float, ...], want: tuple[float, ...]) -> None:
    """What lies nearer to the lowest of a group takes its value; the next one out begins a group."""
    assert scored(*(model(speed_tps=speed) for speed in speeds), by=only("speed")) == want


@pytest.mark.rule("policy.score")
def test_the_guard_is_the_policys() -> None:
    """Without it, a cent is the whole range; with one as large as the mean everything is alike."""
    pair = [model(usd=3.00), model(usd=3.01)]
    by = only("cost")
    assert scored(*pair, by=msgspec.structs.replace(by, tie_share=0.0)) == (1.0, 0.0)
    wide = [model(usd=3.0), model(usd=5.0)]
    assert scored(*wide, by=msgspec.structs.replace(by, tie_share=1.0)) == (1.0, 1.0)


def test_the_order_of_the_candidates_changes_nothing() -> None:
    """Each has the same score, wherever it stands."""
    models = BOOK.catalog.model
    assert scored(*reversed(models)) == scored(*models)[::-1]


# What is not known.


@pytest.mark.rule("catalogue.price", "score.unknown_price")
@pytest.mark.parametrize("price", ["input_usd_per_mtok", "output_usd_per_mtok"])
def test_an_unknown_price_never_wins(price: str) -> None:
    """It counts as nothing is worse, and does not move the scale for the others. Half a price is none."""
    unknown = model("m", **{price: None})
    assert scored(model(usd=100.0), unknown, by=only("cost")) == (1.0, 0.0)
    assert scored(model(usd=1.0), unknown, model(usd=3.0), model(usd=5.0), by=only("cost")) == (1.0, 0.0, 0.5, 0.0)
    assert scored(unknown, unknown, by=only("cost")) == (0.0, 0.0)


@pytest.mark.parametrize(("key", "dimension"), [("speed_tps", "speed"), ("quality", "quality")])
def test_an_unknown_speed_or_quality_never_wins(key: str, dimension: str) -> None:
    """Likewise, beside others that are alike and beside others that differ."""
    differing = [model("m", **{key: value}) for value in (0.25, None, 0.5, 0.75)]
    assert scored(*differing, by=only(dimension)) == (0.0, 0.0, 0.5, 1.0)
    assert scored(model(), model("m", **{key: None}), by=only(dimension)) == (1.0, 0.0)
    assert scored(model("m", **{key: None}), by=only(dimension)) == (0.0,)


# Cost follows what the task reads and writes.

MIXES: dict[str, tuple[int, int, int]] = {
    "nothing to read or write: half of each": (0, 0, 8),
    "only input": (5_000, 0, 16),
    "only output": (0, 5_000, 0),
    "as much in as out": (700, 700, 8),
    "three quarters in": (3_000, 1_000, 12),
    "half a sixteenth rounds to the even one, down": (1, 31, 0),
    "half a sixteenth rounds to the even one, up": (3, 29, 2),
    "just over half a sixteenth": (10_001, 310_000, 1),
}


@pytest.mark.parametrize(("input_tokens", "output_tokens", "want"), MIXES.values(), ids=MIXES.keys())
def test_the_mix_is_in_sixteenths_of_input(input_tokens: int, output_tokens: int, want: int) -> None:
    """So that few different ones occur."""
    assert mix(input_tokens, output_tokens) == want


def test_what_is_cheaper_depends_on_the_mix() -> None:
    """One is cheap to read with, the other to write with."""
    reader = model(input_usd_per_mtok=1.0, output_usd_per_mtok=5.0)
    writer = model(input_usd_per_mtok=3.0, output_usd_per_mtok=3.0)
    assert scored(reader, writer, by=only("cost"), mix16=16) == (1.0, 0.0)
    assert scored(reader, writer, by=only("cost"), mix16=9) == (1.0, 0.0)
    assert scored(reader, writer, by=only("cost"), mix16=8) == (1.0, 1.0)
    assert scored(reader, writer, by=only("cost"), mix16=7) == (0.0, 1.0)


# The thumb on the scales, the role, and the context.


@pytest.mark.rule("score.bias")
def test_a_bias_is_added_to_the_model_it_names() -> None:
    """It may be negative."""
    by = policy(bias={"a": 0.05, "b": -0.15})
    assert scored(model("a"), model("b"), model("c"), by=by) == (1.05, 0.85, 1.0)


@pytest.mark.rule("score.bonus")
def test_a_model_with_the_tasks_role_has_a_bonus() -> None:
    """A task without a role, or a role no model has: no bonus."""
    pair = model("a", roles=("code", "bulk")), model("b", roles=("bulk",))
    assert scored(*pair, role="code") == (1.05, 1.0)
    assert scored(*pair, role="bulk") == (1.05, 1.05)
    assert scored(*pair, role=None) == scored(*pair, role="poet") == (1.0, 1.0)
    assert scored(*pair, role="code", by=policy(role_bonus=0.0)) == (1.0, 1.0)


def test_what_the_context_costs_is_subtracted() -> None:
    """Each candidate has its own penalty, in their order."""
    assert scored(model("a"), model("b"), penalties=(0.2, 0.0)) == (0.8, 1.0)


CONTEXTS: dict[str, tuple[int, int, float]] = {
    "empty": (0, 0, 0.0),
    "just under 90 %": (800, 99, 0.0),
    "exactly 90 %": (800, 100, 0.0),
    "just over 90 %": (800, 101, 0.002),
    "95 %": (800, 150, 0.1),
    "just under 100 %": (800, 199, 0.198),
    "exactly 100 %": (800, 200, 0.2),
    "over 100 %: the gate refuses that, and the penalty grows no further": (900, 200, 0.2),
}


@pytest.mark.rule("score.context")
@pytest.mark.parametrize(("input_tokens", "output_tokens", "want"), CONTEXTS.values(), ids=CONTEXTS.keys())
def test_a_nearly_full_window_costs_score(input_tokens: int, output_tokens: int, want: float) -> None:
    """Nothing up to 90 % of it, the whole penalty at 100 %, in a straight line between."""
    penalty = context_penalty(model(context_window=1_000), input_tokens, output_tokens, policy())
    assert penalty == pytest.approx(want, abs=1e-12)


def test_the_penalty_is_the_policys() -> None:
    """Where it begins, and how much it is."""
    by = policy(context_from_share=0.5, context_penalty=0.4)
    assert context_penalty(model(context_window=1_000), 500, 0, by) == 0.0
    assert context_penalty(model(context_window=1_000), 750, 0, by) == pytest.approx(0.2)
    assert context_penalty(model(context_window=1_000), 1_000, 0, by) == pytest.approx(0.4)


# Mistakes.

WEIGHTS: dict[str, tuple[tuple[float, float, float], bool]] = {
    "none": ((0.0, 0.0, 0.0), True),
    "cost": ((1.0, 0.0, 0.0), False),
    "speed": ((0.0, 1.0, 0.0), False),
    "quality": ((0.0, 0.0, 1.0), False),
    "cost as much as quality": ((0.5, 0.0, 0.5), False),
    "cost as much as speed": ((0.5, 0.5, 0.0), False),
    "speed as much as quality": ((0.0, 0.5, 0.5), False),
}


@pytest.mark.parametrize(("weights", "wrong"), WEIGHTS.values(), ids=WEIGHTS.keys())
def test_something_must_have_a_weight(weights: tuple[float, float, float], wrong: bool) -> None:
    """One dimension is enough; with none there is nothing to compare by."""
    cost, speed, quality = weights
    by = policy(weights=WeightsByObjective(quality=Weights(cost=cost, speed=speed, quality=quality)))
    want = ["weights.quality: one of cost, speed and quality must be above 0."] if wrong else []
    assert list(by.mistakes()) == want


# The shipped numbers.


def test_scores_have_six_digits() -> None:
    """More would be noise in the record, and make a tie of none."""
    assert scored(model(speed_tps=10.0), model(speed_tps=20.0), model(speed_tps=40.0), by=only("speed")) == (
        0.0,
        0.333333,
        1.0,
    )


def test_the_shipped_models_are_ordered_as_one_expects() -> None:
    """Quality puts a premium model first, cost and speed a cheap one; price and quality are those of the catalogue."""
    models = BOOK.catalog.model

    def best(objective: Objective) -> Model:
        return max(zip(scored(*models, objective=objective, mix16=12), models, strict=True), key=lambda pair: pair[0])[
            1
        ]

    assert best("quality").tier == 3
    assert best("cost_speed").tier == best("balanced").tier == 1


@pytest.mark.rule("policy.score")
def test_the_shipped_score_is_the_default_one() -> None:
    """An empty policy scores with the documented numbers."""
    assert load_rulebook(shipped("catalog.toml"), "").policy.score == BOOK.policy.score == ScorePolicy()
