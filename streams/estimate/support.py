"""Whether logged choices carry an estimate of another policy, and if not, what exploration would be needed."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Final

from streams.estimate.interval import of_mean
from streams.estimate.logged_choice import LoggedChoice
from streams.estimate.off_policy import effective_sample_size

#: Smaller effective samples give intervals that miss the truth more often than they say.
SAMPLE_MIN: Final = 100
#: The exploration that a refusal speaks of: one choice in so many is made at random.
EXPLORED_ONE_IN: Final = 20
#: A mean weight that is further below 1 than so many standard errors: the other policy does what was never done.
_FAR: Final = 3.0


def refusal(choices: Sequence[LoggedChoice]) -> str | None:
    """Return why no estimate can be made of these choices, in a sentence, or None: one can."""
    if not choices:
        return "No choice of the window has a propensity and an outcome, so nothing can be estimated from it."
    differing = [one for one in choices if one.target.get(one.action, 0.0) < 1.0]
    certain = sum(one.propensity >= 1.0 for one in differing)
    if certain:
        return (
            f"No estimate: on {certain:,} of {len(choices):,} choices the policy in force left nothing to chance "
            f"(propensity 1) and the other policy chooses differently, so the log cannot say what would have come of "
            f"that. {needed(choices)}"
        )
    weights = [one.weight for one in choices]
    size = effective_sample_size(weights)
    if size < SAMPLE_MIN:
        return (
            f"No estimate: the choices weigh as much as {size:.0f} would without weights, and {SAMPLE_MIN} are the "
            f"least. {needed(choices)}"
        )
    mean = of_mean(weights)
    if mean.value + _FAR * (mean.value - mean.low) / 2.0 < 1.0:
        return (
            f"No estimate: the other policy does what was never done. Its weights have the mean {mean.value:.2f} "
            f"instead of 1, so about {1.0 - mean.value:.0%} of its choices have no counterpart in the log. "
            f"{needed(choices)}"
        )
    return None


def needed(choices: Sequence[LoggedChoice]) -> str:
    """Return the exploration that would carry an estimate, as a sentence with numbers."""
    actions = sorted({one.action for one in choices}.union(*(one.target for one in choices)))
    differing = sum(one.target.get(one.action, 0.0) < 1.0 for one in choices)
    share = differing / len(choices) if choices else 0.0
    # A changed choice counts where chance took what the other policy would: once in `models * EXPLORED_ONE_IN`.
    changed = SAMPLE_MIN * len(actions) * EXPLORED_ONE_IN
    total = f", about {ceil(changed / share):,} choices at this rate" if share else ""
    return (
        f"It would take exploration: of every {EXPLORED_ONE_IN} choices one at random among the admissible models, "
        f"with its propensity in the decision. With {len(actions)} models that carries an estimate after "
        f"{changed:,} choices that differ{total}."
    )
