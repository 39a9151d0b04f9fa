"""Which slot a task takes: the `cheapest_capable` strategy.

Lowest admissible tier among the slots free now (for a lifted task: highest), then lowest busy share of the
slot over 5 min, then of its model, then slot id.
"""

from __future__ import annotations

from schemas.vocabulary import Millis
from streams.policy.lineup import LineUp
from streams.state.utilisation import SHORT_MS


def tier_mask(lineup: LineUp, mask: int, *, lifted: bool) -> int:
    """Those of the models in `mask` that are of its lowest tier; of its highest for a lifted task."""
    for tier in reversed(lineup.tiers_up) if lifted else lineup.tiers_up:
        if tier & mask:
            return tier & mask
    return 0


def model_share(lineup: LineUp, model: str, now_ms: Millis) -> float:
    """Busy share of all slots of the model over 5 min, 0..1."""
    curve = lineup.pool.model_busy.get(model)
    slots = lineup.pool.model_slots.get(model, 0)
    return curve.busy_ms(now_ms, SHORT_MS) / (SHORT_MS * slots) if curve is not None and slots else 0.0
