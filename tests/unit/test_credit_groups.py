"""Tasks of a tenant share a group while its credit covers all of them or none; else each group has one cost."""

from __future__ import annotations

import pytest

from schemas.vocabulary import MicroUsd, Millis
from streams.core.index.balances import Balances
from streams.core.index.conditions import Conditions
from streams.core.index.credit_groups import CreditGroups, is_of
from streams.core.index.family import Family
from streams.core.index.fleet import Cell, Fleet
from streams.core.index.groups import Group, GroupKey
from streams.core.index.undo import Undo
from streams.core.state.marks import Marks
from tests.support.builders import rulebook

FLEET = Fleet((Cell("haiku", None),), {"haiku": 1}, frozenset())
NO_MARKS = Conditions(rulebook(), Marks(), Millis(0))
NO_MARKS.look(FLEET, 1, NO_MARKS.marks, NO_MARKS.now_ms)
CHEAP, DEAR = (MicroUsd(70),), (MicroUsd(100),)


class Tenant:
    """The groups of tenant acme, who has so much credit left."""

    def __init__(self, left: int) -> None:
        self.undo = Undo()
        self.balances = Balances({}, lambda _: (), self.undo)
        self.balances.sync("acme", MicroUsd(left))
        self.groups: dict[GroupKey, Group] = {}
        self.unbilled = self.make(
            GroupKey((None,), low=False, lifted=False, barred=0, emergency_mask=0, failed=False, bill=None), None
        )
        self.index = CreditGroups(self.groups, self.balances, self.make, self.look)

    def make(self, key: GroupKey, family: Family | None) -> Group:
        """Give a new group that has been looked at."""
        group = Group(key, FLEET, 1_000, family, self.undo)
        self.look(group)
        return group

    def look(self, group: Group) -> None:
        """Look at the group with the credit of now."""
        group.look(FLEET, NO_MARKS, self.balances.left)

    def both(self) -> tuple[Group, Group]:
        """Groups of a cheap and of a dear task, after families were split or joined."""
        self._classify()
        self.index.split()
        return self._classify()

    def _classify(self) -> tuple[Group, Group]:
        cheap, dear = (self.index.of(self.unbilled, "acme", costs, None) for costs in (CHEAP, DEAR))
        return cheap, dear


@pytest.mark.parametrize(
    ("left", "shared", "admitted"),
    [(69, True, (0, 0)), (70, False, (1, 0)), (99, False, (1, 0)), (100, True, (1, 1)), (-5, True, (0, 0))],
)
def test_groups_by_what_the_credit_covers(left: int, shared: bool, admitted: tuple[int, int]) -> None:
    """To the micro-dollar; also where the credit was another one before."""
    for before in (0, 85, 1_000):
        tenant = Tenant(before)
        tenant.both()
        tenant.balances.sync("acme", MicroUsd(left))
        tenant.index.look("acme")
        tenant.index.split()
        cheap, dear = tenant.both()
        assert (cheap is dear) == shared
        assert (cheap.mask, dear.mask) == admitted


def test_a_group_that_no_task_joined_is_forgotten_with_its_family() -> None:
    """Nothing is kept of tasks that were only looked at."""
    tenant = Tenant(85)
    cheap, dear = tenant.both()
    assert is_of(cheap, dear.key._replace(bill=dear.key.bill and dear.key.bill._replace(exact=None)))
    assert tenant.groups
    tenant.index.tidy()
    assert not tenant.groups
    assert not tenant.index.is_to_split
