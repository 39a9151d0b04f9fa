"""What a model charges for a request: by the length of its input, by the time, and by what its tokens are.

Prices are dollars a million tokens, which is micro-dollars a token. An amount is whole micro-dollars, rounded half up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import inf
from operator import itemgetter
from typing import Final, NamedTuple

from schemas.vocabulary import MicroUsd, Millis
from streams.core.policy.prices import PriceHours, Prices, PriceStep

_MINUTE_MS: Final = 60_000
_WEEK_MIN: Final = 7 * 24 * 60
#: The first Monday after the epoch, which was a Thursday.
_MONDAY_MIN: Final = 4 * 24 * 60


class Usage(NamedTuple):
    """Tokens of a request; `cached` are some of `input`, `reasoning` some of `output`."""

    input: int
    output: int
    cached: int = 0
    reasoning: int = 0


class Rates(NamedTuple):
    """Micro-dollars a token."""

    input: float
    output: float
    cached: float
    reasoning: float
    #: A token of an answer that is still to come: it may be thought or said, so the dearer of the two.
    answer: float


class Tariff:
    """The prices of one model."""

    __slots__ = ("_answer", "_input", "_lengths", "_minutes", "_rates", "fee_uusd", "is_free", "is_known")

    def __init__(
        self, base: Prices, steps: Sequence[PriceStep], hours: Sequence[PriceHours], request_usd: float | None
    ) -> None:
        """A model has steps or hours or neither; their mistakes were reported before."""
        self.fee_uusd = (request_usd or 0.0) * 1e6
        #: With steps: their lengths, and the rates up to the first of them, up to the second, and so on.
        self._lengths = [step.above_input_tokens for step in steps]
        #: With hours: the minutes of the week at which the rates change, from 0 on, and the rates from each on.
        self._minutes: list[int] = []
        known = [base]
        for step in steps:
            known.append(_over(known[-1], step))
        if hours:
            spans = [(*minutes, _over(base, one)) for one in hours for minutes in one.minutes()]
            self._minutes, known = _timetable(base, sorted(spans, key=itemgetter(0)))
        self._rates: list[Rates | None] = [_rates(prices) for prices in known]
        #: The prices of an estimate where they are always the same, as those of most models are; else None.
        one = self._rates[0] if len(self._rates) == 1 else None
        self._input = one.input if one is not None else None
        self._answer = one.answer if one is not None else None
        #: No request has an unknown price.
        self.is_known = None not in self._rates
        #: Every request is known to cost nothing.
        self.is_free = self.is_known and not self.fee_uusd and not any(map(any, self.known()))

    def rates(self, input_tokens: int, at_ms: Millis) -> Rates | None:
        """Return what a token of such a request costs at that time; None: unknown."""
        if self._lengths:
            return self._rates[bisect_left(self._lengths, input_tokens)]
        if self._minutes:
            return self._rates[bisect_right(self._minutes, _minute_of_week(at_ms)) - 1]
        return self._rates[0]

    def estimate_uusd(self, input_tokens: int, output_tokens: int, at_ms: Millis) -> MicroUsd | None:
        """Return what a request will cost of which nothing is known but its lengths; None where a price is unknown."""
        dear, dearer = self._input, self._answer
        if dear is None or dearer is None:
            rates = self.rates(input_tokens, at_ms)
            if rates is None:
                return None
            dear, dearer = rates.input, rates.answer
        exact = input_tokens * dear + output_tokens * dearer + self.fee_uusd
        return int(exact + 0.5)  # type: ignore[return-value]  # MicroUsd(), a call, would cost a third of this method

    def cost_uusd(self, usage: Usage, at_ms: Millis) -> MicroUsd | None:
        """Return what a request of that time has cost; None where a price is unknown."""
        rates = self.rates(usage.input, at_ms)
        if rates is None:
            return None
        exact = (
            (usage.input - usage.cached) * rates.input
            + (usage.output - usage.reasoning) * rates.output
            + usage.cached * rates.cached
            + usage.reasoning * rates.reasoning
            + self.fee_uusd
        )
        return MicroUsd(int(exact + 0.5))

    def next_change_ms(self, after_ms: Millis) -> float:
        """Return when the prices change next by the time alone."""
        changes = [minute for i, minute in enumerate(self._minutes) if self._rates[i] != self._rates[i - 1]]
        if not changes:
            return inf
        now = _minute_of_week(after_ms)
        minute = next((minute for minute in changes if minute > now), changes[0] + _WEEK_MIN)
        return (after_ms // _MINUTE_MS + minute - now) * _MINUTE_MS

    def known(self) -> list[Rates]:
        """Return all rates that are known."""
        return [rates for rates in self._rates if rates is not None]


def _over(below: Prices, above: Prices) -> Prices:
    """Return the prices of `above`; one left out is that of `below`."""
    said = {key: getattr(above, key) for key in Prices.__struct_fields__}
    return Prices(**{key: getattr(below, key) if price is None else price for key, price in said.items()})


def _rates(prices: Prices) -> Rates | None:
    dear, dearer = prices.input_usd_per_mtok, prices.output_usd_per_mtok
    if dear is None or dearer is None:
        return None
    cached, reasoning = prices.cache_read_usd_per_mtok, prices.reasoning_usd_per_mtok
    cached = dear if cached is None else cached
    reasoning = dearer if reasoning is None else reasoning
    return Rates(dear, dearer, cached, reasoning, max(dearer, reasoning))


def _timetable(base: Prices, spans: Iterable[tuple[int, int, Prices]]) -> tuple[list[int], list[Prices]]:
    """Return the minutes of the week at which prices begin to hold, from 0 on, and these prices; spans are sorted."""
    minutes, prices, end = [0], [base], 0
    for first, after, special in spans:
        if first == end:
            minutes.pop()
            prices.pop()
        minutes += [first, after]
        prices += [special, base]
        end = after
    if end == _WEEK_MIN:
        minutes.pop()
        prices.pop()
    return minutes, prices


def _minute_of_week(at_ms: Millis) -> int:
    return (at_ms // _MINUTE_MS - _MONDAY_MIN) % _WEEK_MIN
