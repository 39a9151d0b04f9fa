"""Prices of a model as the catalogue writes them: a token's, those above an input length, and those of some hours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Annotated, Final

from msgspec import Meta, Struct

Price = Annotated[float, Meta(ge=0.0, le=1e6)]
#: A day of the week, from 1, Monday, to 7.
Weekday = Annotated[int, Meta(ge=1, le=7)]
EVERY_DAY: Final = (1, 2, 3, 4, 5, 6, 7)

_DAY_MIN: Final = 24 * 60
_TIME_OF_DAY: Final = re.compile("([01][0-9]|2[0-3]):([0-5][0-9])")


class Prices(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of tokens, US dollars per million. Absent means unknown, never free."""

    input_usd_per_mtok: Price | None = None
    output_usd_per_mtok: Price | None = None
    #: Of input tokens that the vendor had in its cache; absent: they cost what other input does.
    cache_read_usd_per_mtok: Price | None = None
    #: Of output tokens that the model thinks and does not say; absent: they cost what other output does.
    reasoning_usd_per_mtok: Price | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no price stands there."""
        return all(getattr(self, key) is None for key in Prices.__struct_fields__)


class PriceStep(Prices, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices of the whole request from the first input token above a length; one left out is that of the step below."""

    above_input_tokens: Annotated[int, Meta(ge=1)]


class PriceHours(Prices, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}):
    """Prices at some hours of the day, UTC; one left out is the row's own, which hold at all other hours too."""

    #: As "16:30": the first minute of them.
    from_: str
    #: As "00:30": the first minute after them. They may cross midnight; equal to `from`: the whole day.
    to: str
    #: Only at moments of these days, UTC; absent: of every day.
    weekdays: Annotated[tuple[Weekday, ...], Meta(min_length=1)] = EVERY_DAY

    def minutes(self) -> list[tuple[int, int]]:
        """Return them as minutes of a week that begins on Monday 00:00 UTC: (first, first after).

        Raises:
            ValueError: `from` or `to` is no time of day.
        """
        start, end = _minute_of_day(self.from_), _minute_of_day(self.to)
        parts = [(start, end)] if start < end else [(0, end), (start, _DAY_MIN)]
        midnights = [(day - 1) * _DAY_MIN for day in sorted(set(self.weekdays))]
        return [(at + first, at + after) for at in midnights for first, after in parts if first < after]


def mistakes_of_steps(steps: Sequence[PriceStep]) -> Iterator[str]:
    """Return what is wrong with the steps of one model: key and sentence."""
    for i, step in enumerate(steps, 1):
        if step.is_empty:
            yield f"price_steps[{i}]: no price stands there."
    for below, step in pairwise(steps):
        if step.above_input_tokens <= below.above_input_tokens:
            yield (
                f"price_steps: above_input_tokens {step.above_input_tokens:,} stands after "
                f"{below.above_input_tokens:,}; the steps ascend, and each stands there once."
            )


def mistakes_of_hours(hours: Sequence[PriceHours]) -> Iterator[str]:
    """Return what is wrong with the hours of one model: key and sentence."""
    taken: list[tuple[int, int, int]] = []
    for i, one in enumerate(hours, 1):
        if one.is_empty:
            yield f"price_hours[{i}]: no price stands there."
        try:
            taken += [(first, after, i) for first, after in one.minutes()]
        except ValueError as error:
            yield f"price_hours[{i}]: {error}"
    overlaps = {(max(a[2], b[2]), min(a[2], b[2])) for a, b in pairwise(sorted(taken)) if b[0] < a[1]}
    for later, earlier in sorted(overlaps):
        yield f"price_hours[{later}]: it overlaps price_hours[{earlier}]; at each moment one price holds."


def _minute_of_day(text: str) -> int:
    found = _TIME_OF_DAY.fullmatch(text)
    if found is None:
        raise ValueError(f'{text} is no time of day; write it as "16:30", in UTC.')
    return int(found[1]) * 60 + int(found[2])
