"""What another policy would have earned on the logged choices: IPS, SNIPS and doubly robust, each with its interval.

They answer for one choice at a time, made in the situation that the log has: what a choice does to later ones, by
keeping a slot, is not in them. Choices count as independent. `support.py` says whether a log carries an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import fsum
from typing import Final

from msgspec import Struct

from streams.estimate.interval import Interval, around, of_mean
from streams.estimate.logged_choice import LoggedChoice
from streams.estimate.reward_model import cross_fitted

#: Parts into which choices are cut for the doubly robust estimate; a choice's own reward is not in its expectation.
PARTS: Final = 5


class Estimates(Struct, frozen=True, kw_only=True):
    """The mean reward a choice under the other policy."""

    choices: int
    #: So many choices without weights would say as much.
    effective_sample_size: float
    #: The mean reward of what was done.
    logged: Interval
    #: Inverse propensity scores: unbiased, of a wide interval.
    ips: Interval
    #: The same divided by the sum of weights: biased by little in small samples, narrower.
    snips: Interval
    #: A model of the rewards, corrected by what it got wrong: unbiased if model or propensities are right.
    doubly_robust: Interval


def estimates(choices: Sequence[LoggedChoice]) -> Estimates:
    """Return every estimate; two choices at least.

    Raises:
        ValueError: there are fewer, or no choice has weight.
    """
    return Estimates(
        choices=len(choices),
        effective_sample_size=effective_sample_size([one.weight for one in choices]),
        logged=of_mean([one.reward for one in choices]),
        ips=ips(choices),
        snips=snips(choices),
        doubly_robust=doubly_robust(choices),
    )


def effective_sample_size(weights: Sequence[float]) -> float:
    """Return how many equal weights would have the same spread of their sum (Kish); 0 where no weight is above 0."""
    squares = fsum(weight * weight for weight in weights)
    return fsum(weights) ** 2 / squares if squares else 0.0


def ips(choices: Sequence[LoggedChoice]) -> Interval:
    """Return the mean of rewards times weights."""
    return of_mean([one.weight * one.reward for one in choices])


def snips(choices: Sequence[LoggedChoice]) -> Interval:
    """Return the weighted mean of rewards; its variance is that of the ratio, to first order.

    Raises:
        ValueError: no choice has weight.
    """
    total = fsum(one.weight for one in choices)
    if not total:
        raise ValueError("no choice has weight")
    value = fsum(one.weight * one.reward for one in choices) / total
    return around(value, fsum((one.weight * (one.reward - value)) ** 2 for one in choices) / total**2)


def doubly_robust(choices: Sequence[LoggedChoice], *, parts: int = PARTS) -> Interval:
    """Return the mean of what a model of the rewards expects of the other policy, corrected where weights allow it."""
    models = cross_fitted(choices, parts)
    scores = []
    for i, one in enumerate(choices):
        model = models[i % parts]
        expected = fsum(share * model.expects(one.context, action) for action, share in one.target.items())
        scores.append(expected + one.weight * (one.reward - model.expects(one.context, one.action)))
    return of_mean(scores)
