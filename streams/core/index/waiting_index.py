"""The waiting tasks of one pool, by id, tenant, EV and age. The queues of their groups decide which is served next."""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Iterator
from itertools import islice

from schemas.decision import Percentiles
from streams.core.index.waiting import Entry
from streams.core.policy.rules.premium import PERCENTILE_ERROR


class WaitingIndex:
    """The entries of all waiting tasks of one pool."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self._by_tenant: dict[str, dict[str, Entry]] = {}
        #: By EV in buckets of some three per cent with sorted keys; unknown EVs apart.
        self._by_ev: dict[int, dict[str, Entry]] = {}
        self._ev_keys: list[int] = []
        self._unknown_ev: dict[str, Entry] = {}
        #: Bands of aged priority, sorted, and how many tasks are of each.
        self._bands: list[int] = []
        self._band_counts: list[int] = []

    def add(self, entry: Entry) -> None:
        """Add a waiting task."""
        self._put(entry)
        i = bisect_left(self._bands, entry.band)
        if i == len(self._bands) or self._bands[i] != entry.band:
            self._bands.insert(i, entry.band)
            self._band_counts.insert(i, 0)
        self._band_counts[i] += 1

    def replace(self, fresh: Entry) -> None:
        """Replace the entry of a task."""
        self._put(fresh)

    def remove(self, entry: Entry) -> None:
        """Remove a task."""
        del self.entries[entry.task_id]
        i = bisect_left(self._bands, entry.band)
        self._band_counts[i] -= 1
        if not self._band_counts[i]:
            del self._bands[i]
            del self._band_counts[i]
        del self._ev_bucket(entry)[entry.task_id]
        if (tenant := entry.row.task.tenant_id) is not None:
            theirs = self._by_tenant[tenant]
            del theirs[entry.task_id]
            if not theirs:
                del self._by_tenant[tenant]

    def of_tenant(self, tenant: str) -> list[Entry]:
        """Return the entries of the tenant's tasks."""
        return list(self._by_tenant.get(tenant, {}).values())

    def between(self, before: Percentiles | None, after: Percentiles | None) -> list[Entry]:
        """Return entries with an EV between an old and a new percentile, and some next to them."""
        found: dict[str, Entry] = {}
        for old, new in zip(_p50_p90(before), _p50_p90(after), strict=True):
            if (old is None) != (new is None):
                return list(self.entries.values())
            if old is not None and new is not None and old != new:
                # An EV that equals a percentile up to its last digits may be in the bucket beside it.
                low, high = min(old, new), max(old, new)
                margin = 2 * PERCENTILE_ERROR
                for bucket in self._ev_buckets(low - abs(low) * margin, high + abs(high) * margin):
                    found.update(bucket)
        return list(found.values())

    def as_old_as(self, entry: Entry) -> int:
        """Return how many tasks may have as many points: those of its band, of older ones and of the next."""
        return sum(self._band_counts[: bisect_left(self._bands, entry.band + 2)])

    def _put(self, entry: Entry) -> None:
        self.entries[entry.task_id] = entry
        self._ev_bucket(entry)[entry.task_id] = entry
        if (tenant := entry.row.task.tenant_id) is not None:
            self._by_tenant.setdefault(tenant, {})[entry.task_id] = entry

    def _ev_bucket(self, entry: Entry) -> dict[str, Entry]:
        ev = entry.row.ev
        if ev is None:
            return self._unknown_ev
        key = _bucket_key(ev)
        bucket = self._by_ev.get(key)
        if bucket is None:
            bucket = self._by_ev[key] = {}
            insort(self._ev_keys, key)
        return bucket

    def _ev_buckets(self, low: float, high: float) -> Iterator[dict[str, Entry]]:
        keys = self._ev_keys
        last = _bucket_key(high)
        for key in islice(keys, bisect_left(keys, _bucket_key(low)), None):
            if key > last:
                return
            yield self._by_ev[key]


def _p50_p90(percentiles: Percentiles | None) -> tuple[float | None, float | None]:
    return (None, None) if percentiles is None else (percentiles.p50, percentiles.p90)


def _bucket_key(ev: float) -> int:
    """Return the bucket of an EV: monotone, neighbours differ by some three per cent."""
    mantissa, exponent = math.frexp(abs(ev))
    key = 0 if ev == 0 else (exponent + 1100) * 32 + int(mantissa * 32)
    return key if ev >= 0 else -key
