"""What an action is worth in a context: means of what was seen, drawn towards the action's mean where little was."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from streams.estimate.drawn_means import DrawnMeans
from streams.estimate.logged_choice import LoggedChoice

#: A mean of so many values is drawn half way towards the wider mean.
_WEIGHT: Final = 5.0


class RewardModel:
    """Expected rewards, from some choices."""

    def __init__(self, choices: Iterable[LoggedChoice]) -> None:
        self._means = DrawnMeans(((one.action, one.context, one.reward) for one in choices), _WEIGHT)

    def expects(self, context: tuple[str, ...], action: str) -> float:
        """Return the reward to expect; of what was never seen that of the action, or the mean of all."""
        return self._means.of(action, context)


def cross_fitted(choices: Sequence[LoggedChoice], parts: int) -> list[RewardModel]:
    """Return for each part the model of all choices of the other parts; choice i is in part i modulo `parts`."""
    return [RewardModel(one for i, one in enumerate(choices) if i % parts != part) for part in range(parts)]
