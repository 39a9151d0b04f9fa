"""A tenant's credit must cover the estimated cost, and no cap of the cost breaker may be used up.

Models with a higher price are refused first. A model that is known to cost nothing needs no credit, and no cap bars it:
a tenant that owes something may use it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_UP, Decimal
from typing import Final

from schemas.vocabulary import MicroUsd
from streams.core.policy.breaker import BARS_COSTS, Reading
from streams.core.policy.case import Candidate, Case
from streams.core.policy.numbers import usd


class Credit:
    """The estimated cost against the tenant's available credit, and the spend of the last hour against its caps."""

    gate: Final = "credit"
    headline: Final = "credit"
    looks_at: Final = "money"
    task_fields: Final = ()
    unable: Final = False
    means: Final = "would have cost more than the tenant has left, or than a cap allows"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether a cap bars the model, or the tenant has a budget that does not cover the estimate."""
        if _bars(case, at):
            return True
        if case.available_uusd is None or at.model.tariff.is_free:
            return False
        return exceeds(case.cost_uusd(at.model), case.available_uusd)

    def reason(self, case: Case, at: Candidate) -> str:
        """The spend and the cap; or the estimated cost, and the available credit."""
        if case.trip is not None and _bars(case, at):
            return f"{at.model.id} {_barred(case.trip)}, and {case.trip.says()}."
        cost, tenant = case.cost_uusd(at.model), case.task.tenant_id
        if cost is None:
            return f"The price of {at.model.id} is unknown, and {tenant} pays by a budget."
        left = usd(case.available_uusd)
        return f"{at.model.id} would cost about {usd(cost)}, and {tenant} has {left} of credit left."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """Less spend or a suspended cap; or the missing credit; the command has it rounded up to a cent."""
        model, task = refused[0].model, case.task
        if case.trip is not None and _bars(case, refused[0]):
            of, name = case.trip.scope
            whose = "" if of == "pool" else f"--{of} {name} "
            return (
                "Wait until the spend of the last hour has fallen, raise the cap in breaker.limit, or suspend it: "
                f"slotwise breaker open {whose}--pool {task.pool} --until TIME"
            )
        cost = case.cost_uusd(model)
        if cost is None:
            return f"Give {model.id} its prices in the catalogue."
        missing = cost - (case.available_uusd or 0)
        cents = (Decimal(missing) / 1_000_000).quantize(Decimal("0.01"), ROUND_UP)
        return f"{usd(missing)} more credit: slotwise credit {task.tenant_id} {cents} --pool {task.pool}"

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The spend and the cap; or the estimated cost on the cheapest of them."""
        if case.trip is not None and any(_bars(case, at) for at in refused):
            says = case.trip.says()
            barred = "what costs anything" if case.trip.level >= BARS_COSTS else "tier 3"
            return f"{says[0].upper()}{says[1:]}: {barred} waits until less was spent in the last hour."
        least = min((cost for at in refused if (cost := case.cost_uusd(at.model)) is not None), default=None)
        need = "no price is known" if least is None else f"the cheapest needs {usd(least)}"
        return f"{case.task.tenant_id} has {usd(case.available_uusd)} of credit left, and {need}."


def exceeds(cost_uusd: MicroUsd | None, available_uusd: int) -> bool:
    """Whether the estimate is more than the available credit; no budget covers an unknown price."""
    return cost_uusd is None or cost_uusd > available_uusd


def _bars(case: Case, at: Candidate) -> bool:
    return case.trip is not None and case.trip.bars(at.model)


def _barred(trip: Reading) -> str:
    return "costs something" if trip.level >= BARS_COSTS else "is of tier 3"
