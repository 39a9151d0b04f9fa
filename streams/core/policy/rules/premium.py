"""Keep premium slots for tasks above the EV floor."""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.decision import Percentiles

#: A percentile is a computed number: where many EVs are equal it may miss them by its last digits.
PERCENTILE_ERROR: Final = 1e-9


class PremiumReserve(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A premium model refuses a task of low EV and ordinary priority, unless nothing cheaper is capable at all."""

    #: EV below this percentile of the window is low; an unknown EV is low too.
    ev_percentile: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.50
    #: From this priority on the reserve does not apply.
    priority_min: Annotated[int, Meta(ge=0, le=101)] = 90

    def is_low(self, ev: float | None, priority: int, percentiles: Percentiles | None) -> bool:
        """Whether the reserve is closed to this task, were there something cheaper that can do it."""
        if percentiles is None or percentiles.p50 is None or priority >= self.priority_min:
            return False
        return ev is None or ev < percentiles.p50 - abs(percentiles.p50) * PERCENTILE_ERROR

    @staticmethod
    def reason(model: str, ev: float | None, percentiles: Percentiles) -> str:
        """Why this model is not for this task."""
        own = "its EV is unknown" if ev is None else f"this one has EV {ev:g}"
        return f"{model} is kept for tasks above P50 ({percentiles.p50:g}); {own}."
