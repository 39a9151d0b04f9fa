"""What was spent in a pool in the last hour, and how much of it the policy allows."""

from __future__ import annotations

from collections.abc import Iterable

from tests.reference.conditions import View
from tests.reference.rules import Rules
from tests.reference.task import Task

MINUTE_MS = 60_000
#: What finished work cost: when, whose (tenant, lane), micro-dollars.
Paid = tuple[int, str | None, str | None, int]
Scope = tuple[str, str]


class Spend:
    """The spend of one pool at a time: what was paid for work that is over."""

    def __init__(self, pool: str, paid: Iterable[Paid], now_ms: int) -> None:
        self.pool = pool
        self.paid = [one for one in paid if one[0] // MINUTE_MS >= now_ms // MINUTE_MS - 60]

    def of(self, scope: Scope) -> int:
        """What of it is the tenant's, the lane's or the pool's."""
        return sum(uusd for _, tenant, lane, uusd in self.paid if scope in self.scopes(tenant, lane))

    def scopes(self, tenant: str | None, lane: str | None) -> list[Scope]:
        """Whose spend such work is."""
        named = [("tenant", tenant), ("lane", lane), ("pool", self.pool)]
        return [(of, name) for of, name in named if name is not None]

    def known(self) -> set[Scope]:
        """Everybody who has spent something."""
        return {scope for _, tenant, lane, _ in self.paid for scope in self.scopes(tenant, lane)}

    def sums(self) -> dict[Scope, int]:
        """What was paid, by whom."""
        return {scope: self.of(scope) for scope in self.known()}

    def reached(self, scope: Scope, rules: Rules, view: View, now_ms: int) -> int:
        """How many shares of its cap are used up; 0 where it has none, or an operator has suspended it."""
        of, name = scope
        policy = rules.section("breaker")
        caps = {(limit["of"], limit.get("name")): limit["usd_per_hour"] for limit in policy.get("limit", [])}
        cap = caps.get(scope, caps.get((of, None)))
        if cap is None or view.opened.get((of, None if of == "pool" else name), 0) > now_ms:
            return 0
        shares = ("warn_share", 0.8), ("premium_share", 1.0), ("stop_share", 1.2)
        return sum(self.of(scope) >= policy.get(key, share) * round(cap * 1e6) for key, share in shares)

    def level(self, task: Task, rules: Rules, view: View, now_ms: int) -> int:
        """The worst of whom the task belongs to."""
        scopes = self.scopes(task.event.tenant_id, task.event.lane)
        return max(self.reached(scope, rules, view, now_ms) for scope in scopes)

    def falls_ms(self, rules: Rules, view: View, now_ms: int) -> int | None:
        """When the spend that bars tasks falls by the time alone."""
        barring = [scope for scope in self.known() if self.reached(scope, rules, view, now_ms) >= 2]
        paid = [
            at_ms // MINUTE_MS for at_ms, tenant, lane, _ in self.paid for scope in self.scopes(tenant, lane)
            if scope in barring
        ]  # fmt: skip
        return (min(paid) + 61) * MINUTE_MS if paid else None
