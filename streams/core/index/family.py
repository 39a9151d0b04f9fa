"""Tasks of one tenant whose costs differ little: alike to the credit gate until the credit covers only some of them.

Where a tenant's credit covers some tasks of a family and not others, the family is split by exact costs for as long as
that is so.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas.vocabulary import MicroUsd

#: What a task would cost its tenant on each model of the fleet; None where the price is unknown.
Costs = tuple[MicroUsd | None, ...]


class Bill(NamedTuple):
    """Who pays for the tasks of a group, and how much: nearly (the power of four of the dearest model), or exactly."""

    tenant: str
    size: int
    exact: Costs | None


class Family:
    """The tasks of one tenant that differ by what they cost only, and not by much."""

    __slots__ = ("cheap", "dear", "groups", "split")

    def __init__(self, costs: Costs) -> None:
        #: Bounds of the costs by model; they only grow apart, for as long as somebody waits.
        self.cheap: list[MicroUsd | None] = list(costs)
        self.dear: list[MicroUsd | None] = list(costs)
        #: The credit covers some of them and not others: each stands with those of its exact costs.
        self.split = False
        #: How many groups there are of it.
        self.groups = 0

    def widen(self, costs: Costs) -> bool:
        """One more; whether the bounds have changed."""
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
        """Whether this much credit covers some of them and not others."""
        return any(
            low is not None and high is not None and low <= left < high
            for low, high in zip(self.cheap, self.dear, strict=True)
        )


def size_of(costs: Costs) -> int:
    """The power of four of what the dearest model would cost."""
    return max((cost.bit_length() for cost in costs if cost is not None), default=0) // 2
