"""A row of the catalogue as its keys and values, and the row that a list price makes of it. Pure.

Only what the file says is wanted; of steps and hours only the prices that differ from those below them, so that the
catalogue reads as the vendor's page does. The file states the longest input and the longest answer, never the window of
both: the window stays as it is, unless the input alone is longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from streams.core.policy.catalog import Model
from streams.core.policy.prices import EVERY_DAY
from streams.operate.list_price import CACHED, INPUT, OUTPUT, PRICES, REASONING, ListPrice, PriceSet
from streams.operate.off_peak import Hours

STEPS: Final = "price_steps"
HOURS: Final = "price_hours"
FEE: Final = "request_usd"
#: What is named if the catalogue has it and the file does not. It is kept: it was written there by hand.
NAMED_IF_MISSING: Final = (CACHED, REASONING, FEE, STEPS, HOURS)

_WHEN: Final = ("above_input_tokens", "from", "to", "weekdays")

#: One step or span of hours as it stands in the catalogue.
Entry = dict[str, Any]
#: A value as it stands there: a price, a count, or a list of entries.
Value = float | int | list[Entry]
Row = dict[str, Any]


def catalog_row(model: Model) -> Row:
    """Give the keys of a model that have a value, as they stand in the catalogue."""
    row: Row = {key: value for key, value in msgspec.to_builtins(model).items() if value is not None}
    for key in (STEPS, HOURS):
        entries = [_without_defaults(entry) for entry in row.pop(key)]
        if entries:
            row[key] = entries
    return row


def wanted_row(row: Row, listed: ListPrice) -> tuple[dict[str, Value], tuple[str, ...]]:
    """Give the values that the file says, and remarks on what it does not; `row`: the catalogue's."""
    remarks: list[str] = []
    prices = dict(listed.prices)
    if REASONING not in row and prices.get(REASONING) == prices[OUTPUT]:
        del prices[REASONING]  # absent means as much as other output
    wanted: dict[str, Value] = {**prices}
    if listed.request_usd is not None:
        wanted[FEE] = listed.request_usd
    base: PriceSet = {**{key: row[key] for key in PRICES if key in row}, **prices}
    wanted |= _lists(row, base, listed, remarks.append)
    missing = [key for key in NAMED_IF_MISSING if key in row and key not in wanted]
    if missing:
        remarks.append(f"kept, because the file says nothing of it: {', '.join(missing)}.")
    return {**wanted, **_limits(row, listed, remarks.append)}, tuple(remarks)


def _lists(row: Row, base: PriceSet, listed: ListPrice, say: Callable[[str], None]) -> dict[str, Value]:
    steps = [{"above_input_tokens": above, **prices} for above, prices in listed.steps]
    hours = [{**_when(span), **prices} for span, prices in listed.hours]
    if hours and (steps or STEPS in row):
        say("its prices by the hour are left out: it has prices by length too, and a row can have one of them.")
        hours = []
    if steps and HOURS in row:
        say("its prices by length are left out: the catalogue has price_hours for it, and a row can have one of them.")
        steps = []
    wanted: dict[str, Value] = {}
    for key, entries in ((STEPS, steps), (HOURS, hours)):
        new = _shortest(entries, base, stacked=key == STEPS)
        if new:
            same = _complete(row.get(key, []), base, stacked=key == STEPS) == _complete(new, base, stacked=key == STEPS)
            wanted[key] = row[key] if same else new  # the same in other words is no change
    return wanted


def _shortest(entries: Iterable[Entry], base: PriceSet, *, stacked: bool) -> list[Entry]:
    """Leave out of each entry what holds without it: the prices of the step below (`stacked`), or the row's own."""
    found: list[Entry] = []
    below = base
    for entry in entries:
        differs = {key: entry[key] for key in PRICES if key in entry and entry[key] != _price_of(key, below)}
        if differs:
            found.append({**{key: entry[key] for key in _WHEN if key in entry}, **differs})
        below = {**below, **differs} if stacked else base
    return found


def _complete(entries: Iterable[Entry], base: PriceSet, *, stacked: bool) -> list[Entry]:
    """Give each entry every price that holds there, in one order."""
    found: list[Entry] = []
    below = base
    for entry in entries:
        holds = {**below, **entry}
        found.append({**holds, **{key: _price_of(key, holds) for key in PRICES}})
        below = {key: price for key, price in holds.items() if key in PRICES} if stacked else base
    return sorted(found, key=lambda entry: [str(entry.get(key, "")) for key in _WHEN])


def _price_of(key: str, prices: PriceSet) -> float | None:
    """Return a price; cached input costs what input does, and thinking what output does, where nothing is said."""
    stands_in = {CACHED: INPUT, REASONING: OUTPUT}.get(key, key)
    return prices.get(key, prices.get(stands_in))


def _when(span: Hours) -> Entry:
    return _without_defaults({"from": span.from_, "to": span.to, "weekdays": list(span.weekdays)})


def _without_defaults(entry: Entry) -> Entry:
    """Give an entry in one order, with what it says only."""
    said: Entry = {key: entry[key] for key in (*_WHEN, *PRICES) if entry.get(key) is not None}
    if "weekdays" in said:
        said["weekdays"] = sorted(set(said["weekdays"]))
        if said["weekdays"] == list(EVERY_DAY):
            del said["weekdays"]
    return said


def _limits(row: Row, listed: ListPrice, say: Callable[[str], None]) -> dict[str, Value]:
    wanted: dict[str, Value] = {}
    window = row["context_window"]
    if listed.input_tokens_max is not None:
        if listed.input_tokens_max > window:
            window = wanted["context_window"] = listed.input_tokens_max
        if row.get("input_tokens_max", window) != listed.input_tokens_max:
            wanted["input_tokens_max"] = listed.input_tokens_max
    if listed.output_tokens_max is not None:
        if listed.output_tokens_max > window:
            say(
                f"an answer of {listed.output_tokens_max:,} tokens is longer than the window of {window:,}: left out; "
                "if it is true, write the window into the catalogue."
            )
        else:
            wanted["output_tokens_max"] = listed.output_tokens_max
    return wanted
