"""Groups of watched tenants, whose credit may be used up within a round: by tenant and, where needed, by cost.

Tasks of similar cost are a family and have one group. Where the credit covers only some of them, the family is split:
each task is in the group of its exact costs (`family.py`).
"""

from __future__ import annotations

from collections.abc import Callable

from streams.core.index.balances import Balances
from streams.core.index.family import Bill, Costs, Family, size_of
from streams.core.index.fleet import Verdicts
from streams.core.index.groups import Group, GroupKey


class CreditGroups:
    """Families and groups of tenants with a budget."""

    def __init__(
        self,
        groups: dict[GroupKey, Group],
        balances: Balances,
        make: Callable[[GroupKey, Family], Group],
        look: Callable[[Group], None],
    ) -> None:
        """`groups` are all groups of the pool; `make` makes one, `look` evaluates the present conditions of one."""
        self._groups = groups
        self._balances = balances
        self._make = make
        self._look = look
        self._families: dict[GroupKey, Family] = {}
        self._by_tenant: dict[str, dict[GroupKey, Group]] = {}
        #: Families that must be split or joined.
        self._to_split: dict[GroupKey, None] = {}
        #: Made since the last `tidy`, which removes those without tasks.
        self._new: list[Group] = []

    def clear(self) -> None:
        """Remove all groups: the fleet is another one."""
        self._families.clear()
        self._by_tenant.clear()
        self._to_split.clear()
        self._new.clear()

    def of(self, unbilled: Group, tenant: str, costs: Costs, verdicts_below: Verdicts | None) -> Group:
        """Return the group of tasks like those of `unbilled` with these costs for this tenant.

        `verdicts_below` are those where the bar of their class has given way.
        """
        bill = Bill(tenant, size_of(costs), None)
        key = unbilled.key._replace(bill=bill, verdicts_below=verdicts_below)
        family = self._families.get(key)
        if family is None:
            family = self._families[key] = Family(costs)
        elif family.widen(costs) and key in self._groups:
            self._look(self._groups[key])
        if not family.split and family.is_mixed(self._balances.left[tenant]):
            self._to_split[key] = None
        if family.split or key in self._to_split:
            key = key._replace(bill=bill._replace(exact=costs))
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = self._make(key, family)
            self._by_tenant.setdefault(tenant, {})[key] = group
            family.groups += 1
            self._new.append(group)
        return group

    def drop(self, group: Group) -> None:
        """Remove the group if it has no tasks; its family is removed with its last group."""
        bill, family = group.bill, group.family
        if bill is None or family is None or group.queue.live or self._groups.get(group.key) is not group:
            return
        del self._groups[group.key]
        del self._by_tenant[bill.tenant][group.key]
        family.groups -= 1
        if not family.groups:
            whole = _whole(group.key)
            self._families.pop(whole, None)
            self._to_split.pop(whole, None)

    def tidy(self) -> None:
        """Remove new groups without tasks."""
        for group in self._new:
            self.drop(group)
        self._new.clear()

    def look(self, tenant: str) -> None:
        """Evaluate the tenant's groups again whose verdicts its changed credit concerns."""
        left = self._balances.left[tenant]
        for group in list(self._by_tenant.get(tenant, {}).values()):
            if group.is_valid(left):
                continue
            self._look(group)
            family = group.family
            if family is not None and family.is_mixed(left) != family.split:
                self._to_split[_whole(group.key)] = None

    @property
    def is_to_split(self) -> bool:
        """Whether `split` has something to do."""
        return bool(self._to_split)

    def split(self) -> list[tuple[GroupKey, str]]:
        """Split families that the credit covers in part, join the others; return their keys and tenants.

        Their tasks must be classified again.
        """
        changed = []
        for key in self._to_split:
            family, bill = self._families.get(key), key.bill
            if family is not None and bill is not None:
                family.split = family.is_mixed(self._balances.left[bill.tenant])
                changed.append((key, bill.tenant))
        self._to_split.clear()
        return changed


def is_of(group: Group, family: GroupKey) -> bool:
    """Whether the group belongs to the family with this key."""
    return group.bill is not None and _whole(group.key) == family


def _whole(key: GroupKey) -> GroupKey:
    """Return the key of the family that a group belongs to."""
    return key if key.bill is None or key.bill.exact is None else key._replace(bill=key.bill._replace(exact=None))
