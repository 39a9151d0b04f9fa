"""Available credit of a pool's tenants, and the tenants whose credit must be watched.

Most tenants with a budget have far more than one round could reserve: their tasks are treated like those of tenants
without one. Only where a budget may be used up within a round are its tasks distinguished by their costs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from schemas.decision import LedgerRow
from schemas.vocabulary import MicroUsd
from streams.core.index.undo import Undo


class Balances:
    """Credit of the tenants at this point of a decision."""

    def __init__(self, ledgers: Mapping[str, LedgerRow], costs_of: Callable[[str], Iterable[int]], undo: Undo) -> None:
        self._undo = undo
        self.left: dict[str, MicroUsd] = {tenant: row.available_uusd for tenant, row in ledgers.items()}
        #: Tenants whose credit has changed since the last `look`.
        self.changed: set[str] = set(self.left)
        #: Tenants whose tasks are distinguished by cost; the others have no budget or more than enough.
        self.watched: set[str] = set()
        #: Whether every model of the fleet has a price; a model without one is refused to tenants with a budget.
        self.priced = True
        #: Upper bounds of the cost of a tenant's waiting tasks.
        self._costs_of = costs_of
        self._dearest: dict[str, int] = {}
        #: Tenants that got their first credit since the last `look`: their tasks were not looked at before.
        self._new: set[str] = set()
        self._slots_max = 0

    def leave(self, tenant: str, uusd: MicroUsd) -> None:
        """Set the tenant's credit for the rest of this decision."""
        before = self.left.get(tenant)
        if before is None:
            self._new.add(tenant)
        if before != uusd:
            self._undo.add(partial(self._put_back, tenant, before))
            self.left[tenant] = uusd
            self.changed.add(tenant)

    def take_changed(self) -> list[str]:
        """Return tenants whose credit has changed since the last call, in order; a look at them may change others."""
        changed = sorted(self.changed)
        self.changed.clear()
        return changed

    def sync(self, tenant: str, uusd: MicroUsd) -> None:
        """Follow a change of the tenant's ledger in the state."""
        if tenant not in self.left:
            self._new.add(tenant)
        self.left[tenant] = uusd
        self.changed.add(tenant)

    def has_slots(self, count: int) -> None:
        """Set how many slots a round may use."""
        if count > self._slots_max:
            self._slots_max = count
            self.changed.update(self.left)

    def begin_again(self, *, priced: bool) -> None:
        """Forget all costs: the fleet is another one."""
        self.priced = priced
        self._dearest.clear()
        self._new.clear()
        self.watched = set(self.left)
        self.changed.update(self.left)

    def is_watched(self, tenant: str, cost_max_uusd: int) -> bool:
        """Whether a task of this tenant with a budget must be distinguished by cost, given a bound of its cost."""
        if tenant not in self._new and cost_max_uusd > self._dearest_of(tenant):
            self._dearest[tenant] = cost_max_uusd
            if tenant not in self.watched and not self._is_rich(tenant, self.left[tenant]):
                self.changed.add(tenant)
        return tenant in self.watched

    def look(self, tenant: str) -> bool:
        """Update whether a tenant is watched after its credit changed; return whether its tasks must be looked at.

        With its first credit they must: what is known of it, and of the tasks that came before, is of a time without
        credit, or of steps that gave it credit and were discarded.
        """
        left, is_new = self.left.get(tenant), tenant in self._new
        if is_new:
            self._new.remove(tenant)
            self._dearest.pop(tenant, None)
        watch = left is not None and not self._is_rich(tenant, left)
        if watch != (tenant in self.watched):
            self.watched ^= {tenant}
            return True
        return is_new

    def _put_back(self, tenant: str, before: MicroUsd | None) -> None:
        self.changed.add(tenant)
        if before is None:
            del self.left[tenant]
        else:
            self.left[tenant] = before

    def _is_rich(self, tenant: str, left: MicroUsd) -> bool:
        """Whether the credit is enough for all that a round may route, and for one task more.

        A watched tenant must have twice as much, so that it does not alternate.
        """
        enough = (self._slots_max + 1) * self._dearest_of(tenant)
        return self.priced and left >= (2 * enough if tenant in self.watched else enough)

    def _dearest_of(self, tenant: str) -> int:
        most = self._dearest.get(tenant)
        if most is None:
            most = self._dearest[tenant] = max(self._costs_of(tenant), default=0)
        return most
