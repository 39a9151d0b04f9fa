"""Prices and windows out of LiteLLM's price file, for the catalogue. Pure: texts in, texts out.

The file (`model_prices_and_context_window.json`) is what people have: an object of model name -> prices a token, token
limits, provider, mode. A row of the catalogue finds its model there by `priced_as`. What the file does not say, or says
as 0 of a model that is not free, is left alone: an unknown price is never 0.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import tomlkit
from msgspec import Struct
from tomlkit.items import AoT, Integer, Trivia

from streams.core.policy.catalog import Catalog, Model
from streams.core.policy.document import nearest
from streams.errors import MISTAKE, SlotwiseError

TOKENS_PER_PRICE: Final = 1_000_000
#: Key of the catalogue -> keys of the file, the first that is there counts.
PRICES: Final = {
    "input_usd_per_mtok": ("input_cost_per_token",),
    "output_usd_per_mtok": ("output_cost_per_token",),
    "cache_read_usd_per_mtok": ("cache_read_input_token_cost",),
}
LIMITS: Final = {
    "context_window": ("max_input_tokens", "max_tokens"),
    "output_tokens_max": ("max_output_tokens", "max_tokens"),
}
#: What writes text; a model of another mode is priced by something else than tokens.
MODES: Final = frozenset({"chat", "completion", "responses"})
#: Prices that hold only above a length: `input_cost_per_token_above_272k_tokens`.
_DEARER: Final = re.compile(r"input_cost_per_token_above_(\w+)_tokens")


class PriceFileError(SlotwiseError):
    """A file is not LiteLLM's price file; the message says why."""

    exit_code = MISTAKE


class Change(Struct, frozen=True):
    """One value that differs in the file; `old` None: the catalogue has none."""

    key: str
    old: float | int | None
    new: float | int


class Refreshed(Struct, frozen=True, kw_only=True):
    """The file's values for one model of the catalogue."""

    model: str
    priced_as: str | None
    #: Whether the file prices it; its `priced_at` is then the date of the file.
    found: bool
    changes: tuple[Change, ...] = ()
    #: Why it was left unchanged, or what one price cannot express.
    note: str | None = None


def read_prices(raw: bytes, file: str) -> dict[str, dict[str, Any]]:
    """Read the file: model name -> its row.

    Raises:
        PriceFileError: it is something else.
    """
    try:
        # Prices are small decimals; as floats they would come out as 0.07500000000000001.
        rows = msgspec.json.Decoder(float_hook=Decimal).decode(raw)
    except msgspec.DecodeError as error:
        raise PriceFileError(f"{file} is not readable as JSON: {error}.") from None
    found = {name: row for name, row in rows.items() if isinstance(row, dict)} if isinstance(rows, dict) else {}
    if not any("input_cost_per_token" in row for row in found.values()):
        raise PriceFileError(
            f"{file} is not LiteLLM's price file: expected an object of model names, with input_cost_per_token in it."
        )
    return found


def compare(catalog: Catalog, rows: Mapping[str, Mapping[str, Any]]) -> tuple[Refreshed, ...]:
    """Look every model of the catalogue up, in its order."""
    return tuple(_compare(model, rows) for model in catalog.model)


def _compare(model: Model, rows: Mapping[str, Mapping[str, Any]]) -> Refreshed:
    def left(why: str) -> Refreshed:
        return Refreshed(model=model.id, priced_as=model.priced_as, found=False, note=f"left alone: {why}")

    if model.priced_as is None:
        return left("the catalogue has no priced_as for it.")
    row = rows.get(model.priced_as)
    if row is None:
        return left(f"{model.priced_as} is not in the file.{nearest(model.priced_as, rows)}")
    if row.get("mode", "chat") not in MODES:
        return left(f"{model.priced_as} is of mode {row['mode']}.")
    said = {key: price for key, names in PRICES.items() if (price := _price(_first(row, names))) is not None}
    if "input_usd_per_mtok" not in said or "output_usd_per_mtok" not in said:
        return left("the file has no price for it.")
    free = model.input_usd_per_mtok == 0 and model.output_usd_per_mtok == 0
    if not said["input_usd_per_mtok"] and not said["output_usd_per_mtok"] and not free:
        return left("the file has 0 for its price, which may mean unknown.")
    limits = {key: count for key, names in LIMITS.items() if (count := _count(_first(row, names))) is not None}
    changes = tuple(
        Change(key, old, new) for key, new in {**said, **limits}.items() if (old := getattr(model, key)) != new
    )
    return Refreshed(model=model.id, priced_as=model.priced_as, found=True, changes=changes, note=_note(row))


def rewrite(text: str, refreshed: Sequence[Refreshed], priced_at: dt.date, source: str) -> str:
    """Write the changes into the text of a catalogue, with date and source; all else stays as it is, comments too."""
    document = tomlkit.parse(text)
    found = {one.model: one for one in refreshed if one.found}
    tables = document["model"]
    assert isinstance(tables, AoT)  # noqa: S101 - the text was read as a catalogue before
    for table in tables:
        one = found.get(str(table["id"]))
        if one is None:
            continue
        for change in one.changes:
            table[change.key] = _grouped(change.new) if isinstance(change.new, int) else change.new
        if table.get("priced_at") != priced_at:
            table["priced_at"] = priced_at
        if table.get("price_source") != source:
            table["price_source"] = source
    return tomlkit.dumps(document)


def _first(row: Mapping[str, Any], names: Sequence[str]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def _price(value: Any) -> float | None:
    """Dollars per million tokens of dollars a token; None of what is no price."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 0:
        return None
    return float(value * TOKENS_PER_PRICE)


def _count(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal) or value < 1 or value != int(value):
        return None
    return int(value)


def _note(row: Mapping[str, Any]) -> str | None:
    """Return a note of what one price a token cannot express."""
    plain = _price(row.get("input_cost_per_token"))
    for name, value in row.items():
        above = _DEARER.fullmatch(name)
        price = _price(value)
        if above is not None and price is not None and price != plain:
            return f"above {above[1]} tokens the input costs ${price:g}; the catalogue has one price."
    return None


def _grouped(number: int) -> Integer:
    """Write a count in groups: 1_000_000."""
    return Integer(number, Trivia(), f"{number:_}")
