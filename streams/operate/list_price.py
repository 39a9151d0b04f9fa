"""What one row of LiteLLM's file says of a model, in the units and keys of the catalogue. Pure.

The meaning of each key is that of LiteLLM's own cost calculation: a price above a length is that of the whole request,
the tier of `tiered_pricing` likewise, and `off_peak_pricing` holds in its hours instead of the plain price.
Two of its habits are not followed, because an unknown price is never 0: a 0 beside a real price is not believed, and
nothing is read out of the legacy `max_tokens`, which is the window, the answer or their sum, as the row was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Context, Decimal
from typing import Any, Final, Literal

from msgspec import Struct

from streams.operate.off_peak import Hours, off_peak_hours

#: Above this, in dollars per million tokens, a price is taken for dollars per million in a field of dollars a token.
NO_VENDOR_CHARGES_USD_PER_MTOK: Final = 500
NO_VENDOR_CHARGES_USD_A_REQUEST: Final = 100
#: What writes text; a model of another mode is priced by something else than tokens.
MODES: Final = frozenset({"chat", "completion", "responses"})

#: Key of the catalogue -> key of the file.
PRICES: Final = {
    "input_usd_per_mtok": "input_cost_per_token",
    "output_usd_per_mtok": "output_cost_per_token",
    "cache_read_usd_per_mtok": "cache_read_input_token_cost",
    "reasoning_usd_per_mtok": "output_cost_per_reasoning_token",
}
INPUT, OUTPUT, CACHED, REASONING = PRICES
#: Dollars per million tokens by the key of the catalogue; what is not known is not in it.
PriceSet = dict[str, float]

_ABOVE: Final = re.compile(rf"({'|'.join(PRICES.values())})_above_(\d+)(k?)_tokens")
#: Whose higher price holds from the threshold itself on, by LiteLLM's calculation; everybody else's above it.
_FROM_THE_THRESHOLD_ON: Final = "xai"
#: Prices of the file have at most this many digits that mean something; 1.0000000000000001e-07 is a float of theirs.
_DIGITS: Final = Context(prec=12)

#: Why nothing is taken from a row, as a word for programs.
Left = Literal[
    "no_priced_as", "not_in_file", "stands_twice", "broken_alias", "other_mode", "no_price", "zero",
    "zero_beside_price", "broken_tiers", "too_dear",
]  # fmt: skip


class LeftAlone(Exception):
    """Nothing is taken from the row; the message is the reason, for people."""

    def __init__(self, why: Left, reason: str) -> None:
        super().__init__(reason)
        self.why = why


class ListPrice(Struct, frozen=True, kw_only=True):
    """The values of a row. Steps and hours are complete: each has every price that is known there."""

    prices: PriceSet
    request_usd: float | None
    #: (above this many input tokens, the prices there), ascending.
    steps: tuple[tuple[int, PriceSet], ...]
    #: (when, the prices there).
    hours: tuple[tuple[Hours, PriceSet], ...]
    input_tokens_max: int | None
    output_tokens_max: int | None
    #: What is not taken over, and why.
    notes: tuple[str, ...]


def list_price(row: Mapping[str, Any], *, free: bool) -> ListPrice:
    """Read a row; `free`: the model is known to cost nothing, so that 0 can be believed.

    Raises:
        LeftAlone: it has no price that can be believed.
    """
    if row.get("mode", "chat") not in MODES:
        raise LeftAlone("other_mode", f"it is of mode {row['mode']}, which is not priced by text.")
    notes: list[str] = []
    fee = _fee(row)
    base, *above = _by_length(row)
    if INPUT not in base[1] or OUTPUT not in base[1]:
        raise LeftAlone("no_price", f"the file has no price of input and output tokens for it{_other_prices(row)}.")
    _check_zeros(base[1], fee, free=free)
    steps: list[tuple[int, PriceSet]] = []
    prices = _without_zeros(base[1], notes.append, "")
    for length, found in above:
        steps.append((length, _without_zeros(found, notes.append, f"above {length:,} input tokens ", below=prices)))
    return ListPrice(
        prices=prices, request_usd=fee, steps=tuple(steps), hours=tuple(_hours(row, prices, notes.append)),
        input_tokens_max=_count(row.get("max_input_tokens")), output_tokens_max=_count(row.get("max_output_tokens")),
        notes=tuple(notes),
    )  # fmt: skip


def _other_prices(row: Mapping[str, Any]) -> str:
    """Name what the file prices instead, if it does."""
    found = [key for key, value in row.items() if "_cost_per_" in key and _price(value)]
    return f", but {', '.join(found[:3])}" if found else ""


def _check_zeros(prices: PriceSet, fee: float | None, *, free: bool) -> None:
    """Refuse a row whose plain prices are 0, unless all are and the model is known to be free."""
    zeros = [name for key, name in ((INPUT, "input"), (OUTPUT, "output")) if not prices[key]]
    if not any((prices[INPUT], prices[OUTPUT], fee)):
        if not free:
            raise LeftAlone("zero", "the file has 0 for its price, which may mean unknown.")
    elif zeros:
        beside = f"a fee of ${fee:g} a request" if fee is not None else "a real price"
        raise LeftAlone(
            "zero_beside_price",
            f"the file has 0 for its {' and '.join(zeros)} beside {beside}, which may mean unknown; "
            "if it is true, write it into the catalogue by hand.",
        )


def _without_zeros(prices: PriceSet, say: Callable[[str], None], where: str, below: PriceSet | None = None) -> PriceSet:
    """Leave out what is 0 beside a real price; what a step does not say holds as below it."""
    below = below or {}
    if not prices[INPUT] and not prices[OUTPUT] and not any(below.values()):
        return prices
    for key, price in prices.items():
        if not price:
            say(f"{where}{PRICES[key]} is 0 beside a real price, which may mean unknown: left out.")
    return {**below, **{key: price for key, price in prices.items() if price}}


def _by_length(row: Mapping[str, Any]) -> list[tuple[int, PriceSet]]:
    """Give the prices by length of the input, ascending; the first holds from 0 on."""
    tiers = row.get("tiered_pricing")
    if isinstance(tiers, list) and tiers:
        return _tiers(tiers, row)
    found = [(0, _price_set(row))]
    steps: dict[int, dict[str, Any]] = {}
    for key, value in row.items():
        if (above := _ABOVE.fullmatch(key)) is not None and value is not None:
            length = int(above[2]) * (1000 if above[3] else 1)
            steps.setdefault(length, {})[above[1]] = value
    inclusive = row.get("litellm_provider") == _FROM_THE_THRESHOLD_ON
    found += [(max(length - inclusive, 1), {**found[0][1], **_price_set(steps[length])}) for length in sorted(steps)]
    return found


def _tiers(tiers: list[Any], row: Mapping[str, Any]) -> list[tuple[int, PriceSet]]:
    """Read `tiered_pricing`: a tier without a price of output has the row's, one of cached input that of its input."""
    found: dict[int, PriceSet] = {}
    for tier in tiers:
        start = _start(tier)
        if start is None or start in found:
            raise LeftAlone("broken_tiers", "its tiered_pricing has a tier without a range, or two of one start.")
        found[start] = _price_set({"output_cost_per_token": row.get("output_cost_per_token"), **tier})
        if INPUT not in found[start] or OUTPUT not in found[start]:
            raise LeftAlone("broken_tiers", "its tiered_pricing has a tier without a price.")
    if 0 not in found:
        raise LeftAlone("broken_tiers", "its tiered_pricing does not begin at 0 tokens.")
    for key, stands_in in ((CACHED, INPUT), (REASONING, OUTPUT)):
        if any(key in prices for prices in found.values()):
            for prices in found.values():
                prices.setdefault(key, prices[stands_in])
    return sorted(found.items())


def _start(tier: Any) -> int | None:
    match tier:
        case {"range": [start, _]} if not isinstance(start, bool):
            return 0 if start == 0 else _count(start)
        case _:
            return None


def _hours(row: Mapping[str, Any], prices: PriceSet, say: Callable[[str], None]) -> Iterator[tuple[Hours, PriceSet]]:
    """Give the hours that have other prices."""
    off_peak = row.get("off_peak_pricing")
    if not isinstance(off_peak, Mapping):
        return
    found = _price_set(off_peak)
    hours = off_peak_hours(off_peak)
    if not hours or not found or not all(found.values()):
        say("its off_peak_pricing has no hours or no price that can be believed: left out.")
        return
    for when in hours:
        yield when, {**prices, **found}


def _price_set(row: Mapping[str, Any]) -> PriceSet:
    found = {}
    for key, name in PRICES.items():
        price = _price(row.get(name))
        if price is None:
            continue
        if price > NO_VENDOR_CHARGES_USD_PER_MTOK:
            raise LeftAlone(
                "too_dear",
                f"{name} is {row[name]}, that is ${price:,.0f} per million tokens, and no vendor charges more than "
                f"${NO_VENDOR_CHARGES_USD_PER_MTOK}: probably dollars per million in a field of dollars a token; "
                "if it is true, write it into the catalogue by hand.",
            )
        found[key] = price
    return found


def _fee(row: Mapping[str, Any]) -> float | None:
    """Return the fee a request in dollars; None where there is none, or 0."""
    fee = _price(row.get("input_cost_per_request"), per=1)
    if fee is not None and fee > NO_VENDOR_CHARGES_USD_A_REQUEST:
        raise LeftAlone(
            "too_dear",
            f"input_cost_per_request is {row['input_cost_per_request']}, and no vendor charges more than "
            f"${NO_VENDOR_CHARGES_USD_A_REQUEST} a request; if it is true, write it into the catalogue by hand.",
        )
    return fee or None


def _price(value: Any, per: int = 1_000_000) -> float | None:
    """Return dollars per that many of dollars for one; None of what is no price."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0:
        return None
    if value > 10**9:
        return float(10**9) * per
    price = float(_DIGITS.multiply(Decimal(value), Decimal(per)))
    # What is too small for a float is not free.
    return None if value and not price else price


def _count(value: Any) -> int | None:
    """Return a number of tokens; None of what is none."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or not 1 <= value <= 10**12:
        return None
    return int(value) if value == int(value) else None
