"""The models of the catalogue: ratings, prices, and the product that each one's quota is counted under."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.vocabulary import Dimension, Tier, Word
from streams.core.policy.prices import PriceHours, Prices, PriceStep, mistakes_of_hours, mistakes_of_steps
from streams.core.policy.tariff import Tariff

Rating = Annotated[int, Meta(ge=1, le=10)]
TokenCount = Annotated[int, Meta(ge=1)]
Role = Annotated[str, Meta(min_length=1, max_length=64)]

#: The tier that the gate `premium` guards, and that "always-premium" uses.
PREMIUM_TIER: Final[Tier] = 3


class Model(Prices, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """One row of the catalogue."""

    id: Word
    provider: Word
    product: Word
    tier: Tier
    ratings: dict[Dimension, Rating]
    roles: tuple[Role, ...] = ()
    #: A fee for each request, US dollars; absent: there is none.
    request_usd: Annotated[float, Meta(ge=0.0, le=1e4)] | None = None
    price_steps: tuple[PriceStep, ...] = ()
    price_hours: tuple[PriceHours, ...] = ()
    priced_as: str | None = None
    priced_at: dt.date | None = None
    price_source: str | None = None
    #: Output tokens a second.
    speed_tps: Annotated[float, Meta(gt=0.0)] | None = None
    quality: Annotated[float, Meta(ge=0.0, le=1.0)] | None = None
    #: Most tokens of input and answer together.
    context_window: TokenCount
    #: Most tokens of input, where the vendor states that as well.
    input_tokens_max: TokenCount | None = None
    output_tokens_max: TokenCount
    local: bool = False

    def mistakes(self) -> Iterator[str]:
        """Return mistakes that concern more than one value: key and sentence."""
        if self.input_tokens_max is not None and self.input_tokens_max > self.context_window:
            yield (
                f"input_tokens_max: {self.input_tokens_max:,} is more than context_window, {self.context_window:,}, "
                "which holds input and answer."
            )
        yield from mistakes_of_steps(self.price_steps)
        yield from mistakes_of_hours(self.price_hours)
        if self.price_steps and self.price_hours:
            yield "price_hours: a row has price_steps or price_hours, not both: the price of a long input is not said."

    @property
    def longest_input(self) -> int:
        """Most tokens of input, whatever the answer."""
        return self.context_window if self.input_tokens_max is None else self.input_tokens_max

    @cached_property
    def tariff(self) -> Tariff:
        """Its prices, ready for use."""
        return Tariff(self, self.price_steps, self.price_hours, self.request_usd)


class Catalog(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All models, in the order in which the static fallback tries them."""

    model: Annotated[tuple[Model, ...], Meta(min_length=1, max_length=1000)]
