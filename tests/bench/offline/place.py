"""The fleets of the simulation: slots that run the models of the shipped catalogue, at its speeds and prices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from schemas.vocabulary import Complexity
from streams.core.policy.catalog import PREMIUM_TIER, Model
from tests.support.builders import rulebook

BOOK: Final = rulebook()
MODELS: Final[dict[str, Model]] = BOOK.models
#: The lowest tier of each class of work.
TIER_MIN: Final[dict[Complexity, int]] = BOOK.policy.complexity_tier_min

#: Two premium places among twelve, so that they are worth something.
MIXED: Final = {"opus": 1, "gpt-5": 1, "sonnet": 2, "codex": 2, "haiku": 4, "gemini-flash": 2}
#: As many places, all of them premium.
PREMIUM: Final = {"opus": 6, "gpt-5": 6}


class Place(Struct, frozen=True):
    """A slot and what it runs."""

    slot_id: str
    model: Model

    @property
    def tps(self) -> float:
        """Output tokens a second."""
        assert self.model.speed_tps is not None, f"{self.model.id} has no speed in the catalogue"
        return self.model.speed_tps

    @property
    def is_premium(self) -> bool:
        """Whether the reserve guards it."""
        return self.model.tier == PREMIUM_TIER


def fleet(counts: Mapping[str, int]) -> tuple[Place, ...]:
    """So many slots of each model."""
    return tuple(
        Place(f"{model}-{number}", MODELS[model]) for model, count in counts.items() for number in range(1, count + 1)
    )
