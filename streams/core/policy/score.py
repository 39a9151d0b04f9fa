"""Scores of candidates for a task: cost, speed and quality, weighted by the task's objective.

A score compares the candidates of one decision; scores of two decisions are not comparable. Small differences are
levelled first: a cent must not look like the whole range.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import fsum
from typing import Annotated

from msgspec import Meta, Struct

from schemas.vocabulary import Objective, Profile, Share, Word
from streams.core.policy.catalog import Model
from streams.core.policy.tariff import Rates

Weight = Annotated[float, Meta(ge=0.0, le=1_000.0)]
Multiplier = Annotated[float, Meta(gt=0.0, le=1_000.0)]


class Weights(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights of the dimensions; only their proportion matters."""

    cost: Weight
    speed: Weight
    quality: Weight


class Multipliers(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Factors of a profile on the weights, before their sum is made 1 again."""

    cost: Multiplier
    speed: Multiplier
    quality: Multiplier


class WeightsByObjective(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights for each objective."""

    cost_speed: Weights = Weights(cost=0.45, speed=0.45, quality=0.10)
    balanced: Weights = Weights(cost=0.30, speed=0.30, quality=0.40)
    quality: Weights = Weights(cost=0.10, speed=0.20, quality=0.70)


class MultipliersByProfile(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Multipliers for each profile."""

    fast: Multipliers = Multipliers(cost=1.10, speed=1.20, quality=0.75)
    strong: Multipliers = Multipliers(cost=0.85, speed=0.90, quality=1.25)


class ScorePolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights, profiles, guard, bias, bonus and context penalty."""

    #: Values that differ by less than this share of their mean count as equal.
    tie_share: Share = 0.02
    #: From this share of the context window on a model loses score, at the whole window the whole penalty.
    context_from_share: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.90
    context_penalty: Share = 0.20
    #: Added where one of the model's roles is the task's `agent_role`.
    role_bonus: Share = 0.05
    weights: WeightsByObjective = WeightsByObjective()
    profiles: MultipliersByProfile = MultipliersByProfile()
    #: Added to a model's score, by id: an operator's bias.
    bias: dict[Word, Annotated[float, Meta(ge=-1.0, le=1.0)]] = {}

    def weights_of(self, objective: Objective, profile: Profile | None) -> tuple[float, float, float]:
        """Return the weights of cost, speed and quality; their sum is 1."""
        base: Weights = getattr(self.weights, objective)
        cost, speed, quality = base.cost, base.speed, base.quality
        if profile is not None:
            times: Multipliers = getattr(self.profiles, profile)
            cost, speed, quality = cost * times.cost, speed * times.speed, quality * times.quality
        total = cost + speed + quality
        return cost / total, speed / total, quality / total

    def mistakes(self) -> Iterator[str]:
        """Return mistakes that concern more than one value: key and sentence."""
        for objective in self.weights.__struct_fields__:
            base: Weights = getattr(self.weights, objective)
            if base.cost + base.speed + base.quality == 0.0:
                yield f"weights.{objective}: one of cost, speed and quality must be above 0."


def mix(input_tokens: int, output_tokens: int) -> int:
    """Return how many sixteenths of a task's tokens are input; half of them where it has no tokens."""
    total = input_tokens + output_tokens
    return round(16 * input_tokens / total) if total else 8


def context_penalty(model: Model, input_tokens: int, answer_tokens: int, policy: ScorePolicy) -> float:
    """Return the penalty of a model whose window is nearly filled by the prompt and the longest answer."""
    fill = (input_tokens + answer_tokens) / model.context_window
    beyond = (fill - policy.context_from_share) / (1.0 - policy.context_from_share)
    return policy.context_penalty * min(1.0, max(0.0, beyond))


def scores(
    candidates: Sequence[Model],
    *,
    objective: Objective,
    profile: Profile | None,
    prices: Sequence[float | None],
    penalties: Sequence[float],
    role: str | None,
    policy: ScorePolicy,
) -> tuple[float, ...]:
    """Return each candidate's score, in their order.

    `prices` are theirs of a million of the task's tokens; `penalties` are subtracted for the context.
    """
    for_cost, for_speed, for_quality = policy.weights_of(objective, profile)
    costs = _levels(prices, policy.tie_share, best_is_least=True)
    speeds = _levels([model.speed_tps for model in candidates], policy.tie_share)
    qualities = _levels([model.quality for model in candidates], policy.tie_share)
    bias, bonus = policy.bias, policy.role_bonus
    return tuple(
        round(
            for_cost * cost
            + for_speed * speed
            + for_quality * quality
            + bias.get(model.id, 0.0)
            + (bonus if role in model.roles else 0.0)
            - penalty,
            6,
        )
        for model, cost, speed, quality, penalty in zip(candidates, costs, speeds, qualities, penalties, strict=True)
    )


def usd_per_mtok(rates: Rates | None, fee_uusd: float, mix16: int, tokens: int) -> float | None:
    """Return the price of a million tokens, so many sixteenths of them input; None: unknown.

    A fee for the request is shared by its tokens.
    """
    if rates is None:
        return None
    return (mix16 * rates.input + (16 - mix16) * rates.answer) / 16 + fee_uusd / max(1, tokens)


def _levels(values: Sequence[float | None], tie_share: float, *, best_is_least: bool = False) -> list[float]:
    """Return each value's place between the worst, 0, and the best, 1; 1 where all are equal, 0 where unknown."""
    known = sorted([value for value in values if value is not None])
    if not known:
        return [0.0] * len(values)
    # fsum: the same to the last digit in every Python, so that a replay agrees.
    guard = tie_share * (fsum(known) / len(known))
    anchor = least = known[0]
    anchors: dict[float, float] = {}
    for value in known:
        if value - anchor >= guard:
            anchor = value
        anchors[value] = anchor
    span = anchor - least
    if not span:
        return [0.0 if value is None else 1.0 for value in values]
    if best_is_least:
        return [0.0 if value is None else (anchor - anchors[value]) / span for value in values]
    return [0.0 if value is None else (anchors[value] - least) / span for value in values]
