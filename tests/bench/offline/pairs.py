"""Every rule on every set of marked answers: quality, dollars, and how much of the gap it recovers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

from msgspec import Struct, structs

from streams.estimate.interval import Interval
from tests.bench.offline.curve import Curve, Served, above_random, among, served
from tests.bench.offline.item import PairData, pair_data
from tests.bench.offline.picker import SEED, highest, picked
from tests.bench.offline.source import Source

#: Where the curve is read.
CALLS: Final = (0.2, 0.5, 0.8)
#: Random mixes drawn, to show what luck alone does.
DRAWS: Final = 100


class PairRow(Struct, frozen=True, kw_only=True):
    """One rule on one set."""

    data: str
    rule: str
    #: At the rule's own setting, or at about half of the calls where it must be set.
    served: Served
    by_share: bool = False
    #: PGR there, less that of a random mix with as many strong calls.
    above_random: Interval | None = None
    #: PGR where the strong model gets so many of the calls; None where the rule cannot be set.
    pgr_at: tuple[float | None, ...] | None = None
    apgr: Interval | None = None


class PairTable(Struct, frozen=True, kw_only=True):
    """One set with all its rules."""

    data: str
    weak: str
    strong: str
    items: int
    rows: tuple[PairRow, ...]


def measure(source: Source) -> Iterator[PairTable]:
    """All sets, one after the other."""
    for data in pair_data(source):
        yield PairTable(
            data=data.name, weak=data.weak, strong=data.strong, items=len(data.items), rows=tuple(_rows(data))
        )


def _rows(data: PairData) -> Iterator[PairRow]:
    items = data.items
    yield at_random(data)
    for one in picked(data):
        row = PairRow(
            data=data.name,
            rule=one.rule,
            served=served(items, one.picks),
            by_share=one.by_share,
            above_random=above_random(items, one.picks),
        )
        if one.settings:
            curve = Curve(items, one.settings)
            row = structs.replace(row, apgr=curve.apgr_interval(), pgr_at=tuple(curve.pgr_at(calls) for calls in CALLS))
        yield row


def at_random(data: PairData) -> PairRow:
    """A random mix as it is on average; the intervals are those of single draws on these very items: luck."""
    items = data.items
    none, every = (served(items, [pick] * len(items)) for pick in (False, True))
    average = Served(
        calls=0.5,
        quality=(none.quality + every.quality) / 2,
        usd_per_1000=(none.usd_per_1000 + every.usd_per_1000) / 2,
        pgr=0.5 if every.pgr is not None else None,
    )
    row = PairRow(data=data.name, rule="random mix", served=average, by_share=True)
    if average.pgr is None:
        return row
    chance = random.Random(SEED)
    leads, areas = [], []
    for _ in range(DRAWS):
        curve = Curve(items, highest([chance.random() for _ in items]))
        leads.append((curve.pgr_at(0.5) or 0.0) - 0.5)
        areas.append(curve.apgr() or 0.0)
    return structs.replace(row, above_random=among(0.0, leads), pgr_at=CALLS, apgr=among(0.5, areas))
