"""The cost breaker: what a tenant, a lane or a pool may spend an hour, and how much of it bars which models.

Spend is what finished work of the last hour has cost. At `warn_share` of a cap decisions are flagged; from
`premium_share` on tier 3 is refused, from `stop_share` on everything that costs. It is the gate `credit` that refuses:
there, as here, only less spending or more money helps.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

from schemas.vocabulary import BreakerScope, MicroUsd
from streams.core.policy.catalog import PREMIUM_TIER, Model
from streams.core.policy.numbers import usd
from streams.core.state.spending import Scope

Share = Annotated[float, Meta(gt=0.0, le=100.0)]
Name = Annotated[str, Meta(min_length=1, max_length=256)]

#: How far spend has come: decisions are flagged, tier 3 is refused, everything that costs is refused.
WARNS: Final = 1
BARS_PREMIUM: Final = 2
BARS_COSTS: Final = 3


class BreakerLimit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A cap of what is spent an hour, in one pool."""

    of: BreakerScope
    #: Absent: each tenant, lane or pool that has no cap of its own.
    name: Name | None = None
    usd_per_hour: Annotated[float, Meta(gt=0.0, le=1e9)]


class BreakerPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The caps, and the shares of them at which something happens. Without a cap nothing is counted."""

    warn_share: Share = 0.8
    premium_share: Share = 1.0
    stop_share: Share = 1.2
    limit: tuple[BreakerLimit, ...] = ()

    def mistakes(self) -> Iterator[str]:
        """Return mistakes that concern more than one value: key and sentence."""
        if not self.warn_share <= self.premium_share <= self.stop_share:
            yield "stop_share: the shares must not fall: warn_share, premium_share, stop_share."
        seen: set[tuple[str, str | None]] = set()
        for i, limit in enumerate(self.limit, 1):
            if (limit.of, limit.name) in seen:
                yield f"limit[{i}]: a cap of {limit.of} {limit.name or '(each)'} stands there twice."
            seen.add((limit.of, limit.name))


class Reading(NamedTuple):
    """A cap and what was spent of it; `spent_uusd` None: not known, as in a record."""

    scope: Scope
    spent_uusd: MicroUsd | None
    cap_uusd: MicroUsd
    level: int

    def says(self) -> str:
        """The spend and the cap, as the begin of a sentence."""
        whose = f"{self.scope.of} {self.scope.name}"
        if self.spent_uusd is None:
            return f"{whose} had spent too much of its {usd(self.cap_uusd)} an hour"
        # Rounded down: a share that is not reached is not shown.
        percent = 100 * self.spent_uusd // self.cap_uusd
        return f"{whose} has spent {usd(self.spent_uusd)} of its {usd(self.cap_uusd)} an hour ({percent}%)"

    def bars(self, model: Model) -> bool:
        """Whether it bars tasks from this model; one that is known to cost nothing is never barred."""
        if model.tariff.is_free:
            return False
        return self.level >= BARS_COSTS or (self.level >= BARS_PREMIUM and model.tier == PREMIUM_TIER)


class Breaker:
    """The caps of a policy, ready for use."""

    def __init__(self, policy: BreakerPolicy) -> None:
        self.is_on = bool(policy.limit)
        self._shares = (policy.warn_share, policy.premium_share, policy.stop_share)
        self._caps = {(limit.of, limit.name): MicroUsd(round(limit.usd_per_hour * 1e6)) for limit in policy.limit}

    def cap_uusd(self, scope: Scope) -> MicroUsd | None:
        """Return what may be spent an hour; None: there is no cap."""
        own = self._caps.get((scope.of, scope.name))
        return own if own is not None else self._caps.get((scope.of, None))

    def level(self, spent_uusd: int, cap_uusd: int) -> int:
        """Return how far the spend has come: 0, or one of the levels above."""
        return sum([spent_uusd >= share * cap_uusd for share in self._shares])
