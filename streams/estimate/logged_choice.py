"""One choice of the past as an estimate sees it: what was done, how probable that was, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct


class LoggedChoice(Struct, frozen=True):
    """A decision with its propensity and reward, and what the other policy would have done in its place."""

    #: What the reward may depend on beside the action, such as the task's class; alike means the same tuple.
    context: tuple[str, ...]
    #: What was chosen: a model.
    action: str
    #: Probability with which the policy in force chose it: above 0, at most 1.
    propensity: float
    reward: float
    #: Probabilities of the other policy by action; they add up to 1. A policy without chance has one action.
    target: Mapping[str, float]

    @property
    def weight(self) -> float:
        """How much more often the other policy would have done what was done."""
        return self.target.get(self.action, 0.0) / self.propensity
