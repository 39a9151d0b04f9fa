"""A tenant's credit must cover what the work will probably cost; dearer models are refused first."""

from __future__ import annotations

from schemas.vocabulary import MicroUsd


def refuses(cost_uusd: MicroUsd | None, available_uusd: int) -> bool:
    """Whether the estimate is more than what is available; an unknown price is covered by no budget."""
    return cost_uusd is None or cost_uusd > available_uusd


def reason(tenant: str, available_uusd: int, least_uusd: MicroUsd | None) -> str:
    """Why no model is used for this tenant."""
    need = "no price is known" if least_uusd is None else f"the cheapest needs ${least_uusd / 1e6:.6f}"
    return f"{tenant} has ${available_uusd / 1e6:.6f} of credit left, and {need}"
