"""Every rule on every set of marked answers: quality, dollars, and how much of the gap it recovers."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Final

from msgspec import Struct, structs

from tests.bench.offline.curve import INTERVAL, Curve, Interval, Served, above_random, served
from tests.bench.offline.item import Item, PairData, pair_data
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
    for one in picked(data):
        row = PairRow(
            data=data.name,
            rule=one.rule,
            served=served(items, one.picks),
            by_share=one.by_share,
            above_random=above_random(items, one.picks),
        )
        if one.rule == "random mix":
            apgr = luck(items)
            row = structs.replace(row, apgr=apgr, pgr_at=CALLS if apgr is not None else None)
        elif one.settings:
            curve = Curve(items, one.settings)
            row = structs.replace(row, apgr=curve.apgr_interval(), pgr_at=tuple(curve.pgr_at(calls) for calls in CALLS))
        yield row


def luck(items: Sequence[Item]) -> Interval | None:
    """APGR of a random mix: 0.5 by definition; the interval is that of single draws on these very items."""
    chance = random.Random(SEED)
    found = []
    for _ in range(DRAWS):
        apgr = Curve(items, highest([chance.random() for _ in items])).apgr()
        if apgr is None:
            return None
        found.append(apgr)
    found.sort()
    low, high = (found[min(len(found) - 1, int(share * len(found)))] for share in INTERVAL)
    return Interval(0.5, low, high)
