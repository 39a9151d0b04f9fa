"""Caps of the cost breaker that are nearly used up, or more, as an operator sees them. Pure values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

from schemas.vocabulary import BreakerScope
from streams.core.policy.breaker import BARS_COSTS, BARS_PREMIUM, WARNS, Reading
from streams.views.attention import Attention

Refused = Literal["nothing", "tier 3", "what costs"]

_REFUSES: Final[Mapping[int, Refused]] = {WARNS: "nothing", BARS_PREMIUM: "tier 3", BARS_COSTS: "what costs"}


class Cap(Struct, frozen=True, kw_only=True):
    """A cap, and what was spent of it in the last hour."""

    of: BreakerScope
    name: str
    spent_usd: float
    cap_usd: float
    #: What it refuses: nothing yet, tier 3, everything that costs.
    refuses: Refused

    def attention(self, pool: str) -> Attention:
        """Return the spend and what waits because of it; it ends by itself, as minutes leave the hour."""
        share = f"${self.spent_usd:.2f} of ${self.cap_usd:g} an hour ({self.spent_usd / self.cap_usd:.0%})"
        waits = "" if self.refuses == "nothing" else f": {self.refuses} waits until less was spent in the last hour"
        return Attention(says=f"{pool}: {self.of} {self.name} has spent {share}{waits}.", needs_person=False)


def cap_of(reading: Reading) -> Cap:
    """Return a cap as it is now."""
    return Cap(
        of=reading.scope.of,
        name=reading.scope.name,
        spent_usd=(reading.spent_uusd or 0) / 1e6,
        cap_usd=reading.cap_uusd / 1e6,
        refuses=_REFUSES[reading.level],
    )
