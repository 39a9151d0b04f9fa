"""Which slot a task takes: the `cheapest_capable` strategy.

Lowest admissible tier among the slots free now (for a lifted task: highest), then lowest busy share of the
slot over 5 min, then of its model, then slot id.
"""

from __future__ import annotations

from collections.abc import Iterator

from schemas.vocabulary import Millis
from streams.policy.lineup import LineUp
from streams.state.utilisation import SHORT_MS


def tiers(lineup: LineUp, mask: int, *, lifted: bool) -> Iterator[int]:
    """The tiers of the models in `mask` as masks, in the order in which the strategy looks."""
    for tier in sorted(lineup.tier_masks, reverse=lifted):
        part = lineup.tier_masks[tier] & mask
        if part:
            yield part


def model_share(lineup: LineUp, model: str, now_ms: Millis) -> float:
    """Busy share of all slots of the model over 5 min, 0..1."""
    curve = lineup.pool.model_busy.get(model)
    slots = lineup.pool.model_slots.get(model, 0)
    return curve.busy_ms(now_ms, SHORT_MS) / (SHORT_MS * slots) if curve is not None and slots else 0.0
