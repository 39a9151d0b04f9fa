"""Tasks of one tenant whose costs differ little: alike to the credit gate until the credit covers only some of them.

Where a tenant's credit covers some tasks of a family and not others, the family is split by exact costs for as long as
that is so.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.vocabulary import MicroUsd

#: Estimated cost of a task on each model of the fleet; None where the price is unknown.
Costs = tuple[MicroUsd | None, ...]


class Bill(NamedTuple):
    """Tenant and costs of a group's tasks: approximate (the power of four of the highest cost), or exact."""

    tenant: str
    size: int
    exact: Costs | None


class Family:
    """Tasks of one tenant that differ only, and not much, in cost."""

    __slots__ = ("cheap", "dear", "groups", "split")

    def __init__(self, costs: Costs) -> None:
        #: Bounds of the costs by model; they only become wider while tasks wait.
        self.cheap: list[MicroUsd | None] = list(costs)
        self.dear: list[MicroUsd | None] = list(costs)
        #: The credit covers only some of them: each is in the group of its exact costs.
        self.split = False
        #: Number of its groups.
        self.groups = 0

    def widen(self, costs: Costs) -> bool:
        """Add a task's costs; return whether the bounds have changed."""
        changed = False
        for i, cost in enumerate(costs):
            low, high = self.cheap[i], self.dear[i]
            if cost is None or low is None or high is None:
                continue
            if cost < low:
                self.cheap[i], changed = cost, True
            elif cost > high:
                self.dear[i], changed = cost, True
        return changed

    def is_mixed(self, left: MicroUsd) -> bool:
        """Whether this credit covers only some of the tasks."""
        return any(
            low is not None and high is not None and low <= left < high
            for low, high in zip(self.cheap, self.dear, strict=True)
        )


def size_of(costs: Costs) -> int:
    """Return the exponent of the power of four of the highest cost."""
    return max((cost.bit_length() for cost in costs if cost is not None), default=0) // 2
