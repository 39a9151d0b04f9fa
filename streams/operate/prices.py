"""Compares the catalogue with LiteLLM's price file. Pure.

A row of the catalogue finds its model in the file by `priced_as`. What the file does not say is left as it is, and what
it says of a row that cannot be believed too, with the reason: an unknown price is never 0.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from streams.core.policy.catalog import Catalog, Model
from streams.core.policy.document import nearest
from streams.operate.catalog_row import Value, catalog_row, wanted_row
from streams.operate.list_price import Left, LeftAlone, list_price
from streams.operate.price_file import PriceFile


class Change(Struct, frozen=True):
    """One value that differs in the file; `old` None: the catalogue has none."""

    key: str
    old: Value | None
    new: Value


class Refreshed(Struct, frozen=True, kw_only=True):
    """The file's values for one model of the catalogue."""

    model: str
    priced_as: str | None
    #: Why nothing was taken; None: the file prices it, and its `priced_at` is then the date of the file.
    left: Left | None = None
    changes: tuple[Change, ...] = ()
    #: Sentences: why it was left alone, or what was not taken over of it.
    notes: tuple[str, ...] = ()

    @property
    def found(self) -> bool:
        """Whether the file prices it."""
        return self.left is None


def compare(catalog: Catalog, prices: PriceFile, priced_at: dt.date) -> tuple[Refreshed, ...]:
    """Look every model of the catalogue up, in its order; `priced_at` is the date of the file."""
    return tuple(compare_model(model, prices, priced_at) for model in catalog.model)


def compare_model(model: Model, prices: PriceFile, priced_at: dt.date) -> Refreshed:
    """Look one model up."""
    try:
        name, notes = _follow(model.priced_as, prices)
        free = model.input_usd_per_mtok == 0 and model.output_usd_per_mtok == 0
        listed = list_price(prices.rows[name], free=free)
    except LeftAlone as left:
        return Refreshed(model=model.id, priced_as=model.priced_as, left=left.why, notes=(f"left alone: {left}",))
    row = catalog_row(model)
    wanted, remarks = wanted_row(row, listed)
    return Refreshed(
        model=model.id,
        priced_as=model.priced_as,
        changes=tuple(Change(key, row.get(key), new) for key, new in wanted.items() if row.get(key) != new),
        notes=(*notes, *_deprecated(prices.rows[name], priced_at), *listed.notes, *remarks),
    )


def _follow(priced_as: str | None, prices: PriceFile) -> tuple[str, list[str]]:
    """Find the row that prices a model, along `alias_of`; return its name, and what is worth saying of the way.

    Raises:
        LeftAlone: there is none, or it is not clear which.
    """
    if priced_as is None:
        raise LeftAlone("no_priced_as", "the catalogue has no priced_as for it.")
    way = [priced_as]
    while True:
        name = way[-1]
        row = prices.rows.get(name)
        if row is None and len(way) > 1:
            raise LeftAlone("broken_alias", f"{' is an alias of '.join(way)}, which is not in the file.")
        if row is None:
            raise LeftAlone("not_in_file", f"{name} is not in the file.{nearest(name, prices.rows)}")
        if name in prices.names_twice:
            raise LeftAlone("stands_twice", f"{name} stands twice in the file.")
        if name in prices.keys_twice:
            raise LeftAlone("stands_twice", f"{prices.keys_twice[name][0]} stands twice in the file's row of {name}.")
        target = row.get("alias_of")
        if target is None:
            return name, [f"{' is an alias of '.join(way)}."] if len(way) > 1 else []
        if not isinstance(target, str) or target in way:
            raise LeftAlone("broken_alias", f"{' is an alias of '.join([*way, str(target)])}: that ends nowhere.")
        way.append(target)


def _deprecated(row: Mapping[str, Any], today: dt.date) -> Iterator[str]:
    try:
        end = dt.date.fromisoformat(str(row.get("deprecation_date")))
    except ValueError:
        return
    if end <= today:
        yield f"the file calls it deprecated since {end}: its vendor may refuse it."
