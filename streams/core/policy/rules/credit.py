"""A tenant's credit must cover the estimated cost; models with a higher price are refused first.

A model that is known to cost nothing needs no credit: a tenant that owes something may use it as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import ROUND_UP, Decimal
from typing import Final

from schemas.vocabulary import MicroUsd
from streams.core.policy.case import Candidate, Case
from streams.core.policy.numbers import usd


class Credit:
    """The estimated cost against the available credit of the tenant."""

    gate: Final = "credit"
    headline: Final = "credit"
    looks_at: Final = "money"
    task_fields: Final = ()
    unable: Final = False
    means: Final = "would have cost more than the tenant has left"

    def refuses(self, case: Case, at: Candidate) -> bool:
        """Whether the tenant has a budget that does not cover the estimate."""
        if case.available_uusd is None or at.model.tariff.is_free:
            return False
        return exceeds(case.cost_uusd(at.model), case.available_uusd)

    def reason(self, case: Case, at: Candidate) -> str:
        """The estimated cost, and the available credit."""
        cost, tenant = case.cost_uusd(at.model), case.task.tenant_id
        if cost is None:
            return f"The price of {at.model.id} is unknown, and {tenant} pays by a budget."
        left = usd(case.available_uusd)
        return f"{at.model.id} would cost about {usd(cost)}, and {tenant} has {left} of credit left."

    def remedy(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The missing credit; the command has it rounded up to a cent."""
        model, task = refused[0].model, case.task
        cost = case.cost_uusd(model)
        if cost is None:
            return f"Give {model.id} its prices in the catalogue."
        missing = cost - (case.available_uusd or 0)
        cents = (Decimal(missing) / 1_000_000).quantize(Decimal("0.01"), ROUND_UP)
        return f"{usd(missing)} more credit: slotwise credit {task.tenant_id} {cents} --pool {task.pool}"

    def waits(self, case: Case, refused: Sequence[Candidate]) -> str:
        """The estimated cost on the cheapest of them."""
        least = min((cost for at in refused if (cost := case.cost_uusd(at.model)) is not None), default=None)
        need = "no price is known" if least is None else f"the cheapest needs {usd(least)}"
        return f"{case.task.tenant_id} has {usd(case.available_uusd)} of credit left, and {need}."


def exceeds(cost_uusd: MicroUsd | None, available_uusd: int) -> bool:
    """Whether the estimate is more than the available credit; no budget covers an unknown price."""
    return cost_uusd is None or cost_uusd > available_uusd
