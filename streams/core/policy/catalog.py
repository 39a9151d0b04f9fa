"""The models of the catalogue: ratings, prices, and the product that each one's quota is counted under."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.vocabulary import Dimension, MicroUsd, Tier, Word

Rating = Annotated[int, Meta(ge=1, le=10)]
Price = Annotated[float, Meta(ge=0.0, le=1e6)]
Role = Annotated[str, Meta(min_length=1, max_length=64)]

#: The tier that the gate `premium` guards, and that "always-premium" uses.
PREMIUM_TIER: Final[Tier] = 3


class Model(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One row of the catalogue. Prices are US dollars per million tokens; absent means unknown, never free."""

    id: Word
    provider: Word
    product: Word
    tier: Tier
    ratings: dict[Dimension, Rating]
    roles: tuple[Role, ...] = ()
    input_usd_per_mtok: Price | None = None
    output_usd_per_mtok: Price | None = None
    cache_read_usd_per_mtok: Price | None = None
    priced_as: str | None = None
    priced_at: dt.date | None = None
    price_source: str | None = None
    #: Output tokens a second.
    speed_tps: Annotated[float, Meta(gt=0.0)] | None = None
    quality: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    context_window: Annotated[int, Meta(ge=1)]
    output_tokens_max: Annotated[int, Meta(ge=1)]
    local: bool = False

    @property
    def is_priced(self) -> bool:
        """Whether both prices are known."""
        return self.input_usd_per_mtok is not None and self.output_usd_per_mtok is not None

    def cost_uusd(self, input_tokens: int, output_tokens: int) -> MicroUsd | None:
        """Price of that many tokens in micro-dollars, rounded half up; None where a price is unknown.

        A token at $1 per million costs one micro-dollar, so the product needs no further factor.
        """
        if self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            return None
        exact = input_tokens * self.input_usd_per_mtok + output_tokens * self.output_usd_per_mtok
        return MicroUsd(int(exact + 0.5))


class Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All models, in the order in which the static fallback tries them."""

    model: Annotated[tuple[Model, ...], Meta(min_length=1, max_length=1000)]
