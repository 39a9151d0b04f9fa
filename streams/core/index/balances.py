"""What the tenants of a pool may still spend, and whose credit is worth watching.

Nearly all tenants with a budget have far more than a round could spend: their tasks are like those of tenants without
one. Only where the end of a budget may come in a round are its tasks told apart by what they cost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from schemas.decision import LedgerRow
from schemas.vocabulary import MicroUsd
from streams.core.index.undo import Undo


class Balances:
    """The tenants' credit at this point of a decision."""

    def __init__(self, ledgers: Mapping[str, LedgerRow], costs_of: Callable[[str], Iterable[int]], undo: Undo) -> None:
        self._undo = undo
        self.left: dict[str, MicroUsd] = {tenant: row.available_uusd for tenant, row in ledgers.items()}
        #: Tenants whose credit has changed since it was looked at.
        self.changed: set[str] = set(self.left)
        #: Tenants whose tasks are told apart by cost; others pay by no budget, or have more than enough.
        self.watched: set[str] = set()
        #: Every model of the fleet has a price; one without is refused to whoever has a budget.
        self.priced = True
        #: Bounds of what a tenant's waiting tasks cost.
        self._costs_of = costs_of
        self._dearest: dict[str, int] = {}
        self._slots_max = 0

    def leave(self, tenant: str, uusd: MicroUsd) -> None:
        """So much is left to the tenant, for the rest of this decision."""
        before = self.left.get(tenant)
        if before != uusd:
            self._undo.add(partial(self._put_back, tenant, before))
            self.left[tenant] = uusd
            self.changed.add(tenant)

    def take_changed(self) -> list[str]:
        """Tenants whose credit has changed since the last call, in order; looking at them may change others."""
        changed = sorted(self.changed)
        self.changed.clear()
        return changed

    def sync(self, tenant: str, uusd: MicroUsd) -> None:
        """The tenant's money changed in the state."""
        self.left[tenant] = uusd
        self.changed.add(tenant)

    def has_slots(self, count: int) -> None:
        """A round may use so many slots."""
        if count > self._slots_max:
            self._slots_max = count
            self.changed.update(self.left)

    def begin_again(self, *, priced: bool) -> None:
        """Another fleet: nothing is known of what tasks cost."""
        self.priced = priced
        self._dearest.clear()
        self.watched = set(self.left)
        self.changed.update(self.left)

    def is_watched(self, tenant: str, cost_max_uusd: int) -> bool:
        """Whether a task of this tenant, who has a budget, is to be told apart; it costs no more than so much."""
        if cost_max_uusd > self._dearest_of(tenant):
            self._dearest[tenant] = cost_max_uusd
            if tenant not in self.watched and not self._is_rich(tenant, self.left[tenant]):
                self.changed.add(tenant)
        return tenant in self.watched

    def look(self, tenant: str) -> bool:
        """Look at a tenant whose credit has changed: whether it begins to be watched, or ceases to."""
        left = self.left.get(tenant)
        watch = left is not None and not self._is_rich(tenant, left)
        if left is None:
            # From here on nobody looks at what its tasks cost.
            self._dearest.pop(tenant, None)
        if watch == (tenant in self.watched):
            return False
        self.watched ^= {tenant}
        return True

    def _put_back(self, tenant: str, before: MicroUsd | None) -> None:
        self.changed.add(tenant)
        if before is None:
            del self.left[tenant]
        else:
            self.left[tenant] = before

    def _is_rich(self, tenant: str, left: MicroUsd) -> bool:
        """Whether the credit is enough for whatever a round may route, and then for one more.

        Who was found to have less must have twice as much, so that nobody goes back and forth.
        """
        enough = (self._slots_max + 1) * self._dearest_of(tenant)
        return self.priced and left >= (2 * enough if tenant in self.watched else enough)

    def _dearest_of(self, tenant: str) -> int:
        most = self._dearest.get(tenant)
        if most is None:
            most = self._dearest[tenant] = max(self._costs_of(tenant), default=0)
        return most
