"""Keep premium slots for tasks above the premium floor, unless no cheaper model is in reach that can do the work.

In reach is a model with a slot in service, free or leased, that no mark refuses, or only marks that end at a known
time. A lost slot may never come back, nor a drained model: while a premium slot is idle, no task waits for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.decision import Percentiles
from schemas.vocabulary import Gate
from streams.core.policy.case import Candidate, Case
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.numbers import apart, short
from streams.core.policy.rules import emergency

#: A percentile is a computed number: where many EVs are equal it may miss them by its last digits.
PERCENTILE_ERROR: Final = 1e-9


class PremiumFloor(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The premium floor: tasks of low EV and ordinary priority are below it."""

    #: EV below this percentile of the window is low; an unknown EV is low too.
    ev_percentile: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.50
    #: From this priority on a task is never below the floor.
    priority_min: Annotated[int, Meta(ge=0, le=101)] = 90

    def is_low(self, ev: float | None, priority: int, percentiles: Percentiles | None) -> bool:
        """Whether the task is below the premium floor; without percentiles no task is."""
        if percentiles is None or percentiles.p50 is None or priority >= self.priority_min:
            return False
        return ev is None or ev < percentiles.p50 - abs(percentiles.p50) * PERCENTILE_ERROR


class Premium:
    """EV, priority and patience against the premium floor."""

    gate: Final[Gate] = "premium"
    headline: Final = "reserved_for_ev"
    looks_at: Final = "fleet"
    task_fields: Final = ()
    unable: Final = False
    means: Final = "is kept for tasks of higher expected value"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether the task is low and a cheaper model in reach can do the work: the sole one is never refused."""
        return (
            case.is_low and at.model.tier == PREMIUM_TIER and any(_is_cheaper(other, case) for other in case.in_reach)
        )

    def reason(self, case: Case, at: Candidate) -> str:
        """P50, and the task's EV."""
        p50 = case.percentiles.p50 if case.percentiles is not None else None
        if p50 is None:
            return f"{at.model.id} is kept for tasks of higher expected value."
        if case.ev is None:
            return f"{at.model.id} is kept for tasks above P50 ({short(p50)}); its EV is unknown."
        ev, line = apart(case.ev, p50)
        return f"{at.model.id} is kept for tasks above P50 ({line}); this one has EV {ev}."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:  # noqa: ARG002 -- all of them open alike
        """An EV at P50, the priority from which the floor does not apply, or patience."""
        p50 = case.percentiles.p50 if case.percentiles is not None else None
        now = "unknown" if case.ev is None else f"{case.ev:g}"
        least, points = case.rulebook.policy.premium.priority_min, case.rulebook.patience_points
        opens = f"a priority of {least} or more (now {case.task.priority}), or {points} points of priority and waiting."
        return f"An EV of {p50:g} or more (now {now}), {opens}" if p50 is not None else f"A{opens[1:]}"

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The reason of the first of them; it is the same for all."""
        return self.reason(case, refused[0])


def keep(gates: list[Gate | None], premium_mask: int) -> None:
    """Refuse the cells of a group in the mask that no earlier gate refuses."""
    for i, gate in enumerate(gates):
        if gate is None and premium_mask >> i & 1:
            gates[i] = Premium.gate


def _is_cheaper(model: Model, case: Case) -> bool:
    """Whether the model, which can do the work, counts as a cheaper one."""
    return model.tier < PREMIUM_TIER and not emergency.is_emergency_only(model, case.task, case.listed)
