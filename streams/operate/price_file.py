"""Reads LiteLLM's price file: model name -> its row, with every name and key that stands twice.

The file is `model_prices_and_context_window.json`: an object of model names. JSON readers keep the last of two equal
keys without a word; of a price that is a guess, so they are remembered here, and no such row is taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NoReturn

from msgspec import Struct

from streams.errors import MISTAKE, SlotwiseError


class PriceFileError(SlotwiseError):
    """A file is not LiteLLM's price file; the message says why."""

    exit_code = MISTAKE


class PriceFile(Struct, frozen=True):
    """What the file says. Prices are exact decimals: as floats they would come out as 0.07500000000000001."""

    rows: Mapping[str, Mapping[str, Any]]
    #: Names of models that stand twice in the file.
    names_twice: frozenset[str] = frozenset()
    #: Name of a model -> keys that stand twice in its row.
    keys_twice: Mapping[str, tuple[str, ...]] = {}


def read_prices(raw: bytes, file: str) -> PriceFile:
    """Read the file; `file` is its name for the sentences.

    Raises:
        PriceFileError: it is something else.
    """
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PriceFileError(f"{file} is not UTF-8, as JSON is: save it as UTF-8, or get it again.") from None
    try:
        rows = json.loads(text, object_pairs_hook=_Object, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, ArithmeticError) as error:
        raise PriceFileError(f"{file} is not readable as JSON: {error}.") from None
    except RecursionError:
        raise PriceFileError(f"{file} is not readable as JSON: it is nested too deeply.") from None
    found = {name: row for name, row in rows.items() if isinstance(row, _Object)} if isinstance(rows, _Object) else {}
    if not any("input_cost_per_token" in row for row in found.values()):
        raise PriceFileError(
            f"{file} is not LiteLLM's price file: expected an object of model names, with input_cost_per_token in it."
        )
    twice = {name: keys for name, row in found.items() if (keys := tuple(_twice_within(row)))}
    return PriceFile(found, frozenset(rows.twice), twice)


class _Object(dict[str, Any]):
    """An object of the file, and its keys that stand twice; of their values it has the last."""

    def __init__(self, pairs: Iterable[tuple[str, Any]]) -> None:
        super().__init__()
        self.twice: list[str] = []
        for key, value in pairs:
            if key in self:
                self.twice.append(key)
            self[key] = value


def _twice_within(value: Any) -> Iterable[str]:
    """Give the keys that stand twice in a row, at any depth."""
    if isinstance(value, _Object):
        yield from value.twice
        for inner in value.values():
            yield from _twice_within(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _twice_within(inner)


def _refuse(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
