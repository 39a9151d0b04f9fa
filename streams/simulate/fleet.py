"""The slots of a simulation: models of a catalogue at its speeds and prices."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from schemas.vocabulary import Tier
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.tariff import Tariff
from streams.errors import MISTAKE, SlotwiseError


class FleetError(SlotwiseError):
    """A fleet names a model that cannot be simulated; the message says which, and what it lacks."""

    exit_code = MISTAKE


class Slot(Struct, frozen=True):
    """A place that does one job at a time."""

    slot_id: str
    model_id: str
    tier: Tier
    #: Output tokens a second.
    speed_tps: float
    tariff: Tariff
    #: 0..1; None: the catalogue does not say it.
    quality: float | None = None

    @property
    def is_premium(self) -> bool:
        """Whether the premium floor guards it."""
        return self.tier == PREMIUM_TIER


#: All slots of a run; their order is the order in which they come into service.
Fleet = tuple[Slot, ...]


def fleet(slots_by_model: Mapping[str, int], catalog: Mapping[str, Model]) -> Fleet:
    """Make that many slots of each model, called `<model>-1`, `<model>-2` and so on.

    Raises:
        FleetError: the catalogue lacks a model, or its speed or prices.
    """
    return tuple(
        _slot(f"{model_id}-{number}", model_id, catalog)
        for model_id, count in slots_by_model.items()
        for number in range(1, count + 1)
    )


def _slot(slot_id: str, model_id: str, catalog: Mapping[str, Model]) -> Slot:
    model = catalog.get(model_id)
    if model is None:
        raise FleetError(f"The catalogue has no model {model_id}: a fleet can have {', '.join(sorted(catalog))}.")
    if model.speed_tps is None:
        raise FleetError(f"The catalogue has no speed_tps of {model_id}, so its work cannot be timed.")
    if not model.tariff.is_known:
        raise FleetError(f"The catalogue has no prices of {model_id}, so its work cannot be charged.")
    return Slot(
        slot_id=slot_id,
        model_id=model_id,
        tier=model.tier,
        speed_tps=model.speed_tps,
        tariff=model.tariff,
        quality=model.quality,
    )
