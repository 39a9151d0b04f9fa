"""How often work fails, by model and class: shares, drawn towards the model's where little was seen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from streams.estimate.drawn_means import DrawnMeans

#: A share of so many pieces of work is drawn half way towards the wider one.
_WEIGHT: Final = 20.0


class Ending(Struct, frozen=True):
    """How a piece of work ended."""

    model: str
    kind: str
    failed: bool


class FailureRates:
    """Failure rates of recorded work."""

    def __init__(self, endings: Iterable[Ending]) -> None:
        self._means = DrawnMeans(((one.model, one.kind, float(one.failed)) for one in endings), _WEIGHT)

    def rate(self, model: str, kind: str) -> float:
        """Return the share of such work that fails, 0..1."""
        return self._means.of(model, kind)

    def fails(self, recorded: Ending, model: str, chance: float) -> bool:
        """Say whether work that ended so on one model would fail on another, by a chance of 0..1.

        The same chance decides for both models, and is drawn so that it explains the record: on the recorded model the
        answer is what was recorded, and over all work each model fails at its rate.
        """
        rate = self.rate(recorded.model, recorded.kind)
        drawn = rate * chance if recorded.failed else rate + (1.0 - rate) * chance
        return recorded.failed if model == recorded.model else drawn < self.rate(model, recorded.kind)
