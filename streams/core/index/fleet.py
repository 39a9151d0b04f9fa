"""The models and accounts of a pool's registered slots, as bits."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from schemas.decision import SlotRow
from schemas.vocabulary import Gate, MicroUsd
from streams.core.index.family import Costs
from streams.core.policy.breaker import BARS_COSTS, BARS_PREMIUM
from streams.core.policy.catalog import PREMIUM_TIER
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import credit, emergency

#: Of each model, or of each cell, of a fleet: the gate that refuses it, or None.
Verdicts = tuple[Gate | None, ...]
#: Score of each model of a fleet; None where it was not compared.
Scores = tuple[float | None, ...]


class Cell(NamedTuple):
    """Slots that no rule distinguishes: those of one model under one account."""

    model: str
    account: str | None


class Fleet:
    """The cells of a pool, as bits: bit i of every mask is the i-th cell, in the order of the catalogue."""

    __slots__ = (
        "account_masks",
        "bit",
        "cells",
        "emergency_mask",
        "free_models",
        "model_masks",
        "model_of",
        "models",
        "tier_masks",
        "tiers_up",
    )

    def __init__(
        self,
        cells: Sequence[Cell],
        tiers: Mapping[str, int],
        emergency: frozenset[str],
        free: frozenset[str] = frozenset(),
    ) -> None:
        """By model: its tier, whether it is for emergencies, whether it is known to cost nothing."""
        self.cells = tuple(cells)
        self.bit = {cell: i for i, cell in enumerate(self.cells)}
        #: The models, each once.
        self.models: tuple[str, ...] = tuple(dict.fromkeys(cell.model for cell in self.cells))
        place = {model: i for i, model in enumerate(self.models)}
        #: Place in `models` of each cell's model.
        self.model_of = tuple(place[cell.model] for cell in self.cells)
        #: Places of the models that are known to cost nothing.
        self.free_models = frozenset(place[model] for model in self.models if model in free)
        self.model_masks = [0] * len(self.models)
        self.account_masks: dict[str, int] = {}
        self.tier_masks: dict[int, int] = {}
        #: Cells of local emergency models.
        self.emergency_mask = 0
        for i, cell in enumerate(self.cells):
            self.model_masks[self.model_of[i]] |= 1 << i
            self.tier_masks[tiers[cell.model]] = self.tier_masks.get(tiers[cell.model], 0) | 1 << i
            if cell.account is not None:
                self.account_masks[cell.account] = self.account_masks.get(cell.account, 0) | 1 << i
            if cell.model in emergency:
                self.emergency_mask |= 1 << i
        #: The masks of the tiers, lowest first.
        self.tiers_up = tuple(self.tier_masks[tier] for tier in sorted(self.tier_masks))

    @classmethod
    def of(cls, cells: Collection[Cell], rulebook: Rulebook) -> Fleet:
        """Return the fleet of these cells, in the order of the catalogue."""
        models, rank = rulebook.models, rulebook.rank
        ordered = sorted(cells, key=lambda cell: (rank[cell.model], cell.account or ""))
        emergencies = frozenset(cell.model for cell in ordered if emergency.is_emergency(models[cell.model]))
        free = frozenset(cell.model for cell in ordered if models[cell.model].tariff.is_free)
        return cls(ordered, {cell.model: models[cell.model].tier for cell in ordered}, emergencies, free)

    def mask_of(self, cells: Iterable[Cell]) -> int:
        """Return the mask of these cells, which must be of the fleet."""
        return sum([1 << self.bit[cell] for cell in cells])

    def masks_of(self, models: Collection[str]) -> int:
        """Return the cells of these models; a model without a slot has none."""
        return sum(mask for model, mask in zip(self.models, self.model_masks, strict=True) if model in models)

    def barred(self, level: int) -> int:
        """Return the cells from which the cost breaker bars a task at this level."""
        if level < BARS_PREMIUM:
            return 0
        dear = -1 if level >= BARS_COSTS else self.tier_masks.get(PREMIUM_TIER, 0)
        return sum([1 << i for i, of in enumerate(self.model_of) if of not in self.free_models and dear >> i & 1])

    def unpaid(self, costs: Costs, left: MicroUsd) -> int:
        """Return the cells that this credit does not cover; `costs` by model. One that costs nothing needs none."""
        free = self.free_models
        return sum([1 << i for i, of in enumerate(self.model_of) if of not in free and credit.exceeds(costs[of], left)])


def cell_of(slot: SlotRow) -> Cell:
    """Return the cell of the slot."""
    return Cell(slot.model, slot.account)
