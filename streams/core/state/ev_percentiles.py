"""EV percentiles: P50 and P90 of the EVs that became pending in the last hour.

The window is made of sub-windows of a minute. Each has a t-digest of at most 512 centroids and the samples since the
digest was last compressed. They are merged when percentiles are computed: exact up to some hundred samples, above that
within the digest's error (a fraction of a percent of rank in the middle, less at the ends). Reading a digest compresses
it, so reads use copies: the digest is stored as bytes and made again after every 256th sample. So the same samples in
the same order give the same bytes, with or without reads in between.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fastdigest import TDigest

from schemas.vocabulary import Millis

MINUTE_MS: Final = 60_000
_CENTROIDS_MINUTE: Final = 512
_CENTROIDS_HOUR: Final = 1_024
_FRESH_MAX: Final = 256


class _Minute:
    """One sub-window."""

    __slots__ = ("count", "digest", "fresh")

    def __init__(self, digest: bytes = b"", fresh: Iterable[float] = ()) -> None:
        self.digest = digest
        self.fresh = list(fresh)
        #: Samples of the digest and since.
        self.count = len(self.fresh) + (TDigest.from_bytes(digest).n_values if digest else 0)

    def add(self, ev: float) -> None:
        self.count += 1
        self.fresh.append(ev)
        if len(self.fresh) == _FRESH_MAX:
            whole = TDigest.from_bytes(self.digest) if self.digest else TDigest(_CENTROIDS_MINUTE)
            whole.batch_update(self.fresh)
            self.digest = whole.to_bytes()
            self.fresh = []


class EvWindow:
    """The sliding hour of one pool's EVs."""

    __slots__ = ("_minutes", "window_ms")

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._minutes: dict[int, _Minute] = {}

    def add(self, at_ms: Millis, ev: float) -> None:
        """Add a sample; samples come in the order of time."""
        key = at_ms // MINUTE_MS
        minute = self._minutes.get(key)
        if minute is None:
            minute = self._minutes[key] = _Minute()
            oldest = (at_ms - self.window_ms) // MINUTE_MS
            for old in [m for m in self._minutes if m < oldest]:
                del self._minutes[old]
        minute.add(ev)

    def count(self, now_ms: Millis) -> int:
        """Return the number of samples of the window that ends at `now_ms`, as `merged` counts them."""
        oldest = (now_ms - self.window_ms) // MINUTE_MS
        return sum([minute.count for key, minute in self._minutes.items() if key >= oldest])

    def merged(self, now_ms: Millis, more: Iterable[tuple[Millis, float]] = ()) -> TDigest:
        """Return all samples of the window that ends at `now_ms`, and `more`, as one digest.

        The oldest sub-window counts whole while any part of it is inside.
        """
        oldest = (now_ms - self.window_ms) // MINUTE_MS
        whole = TDigest(_CENTROIDS_HOUR)
        fresh: list[float] = []
        for key in sorted(self._minutes):
            if key >= oldest:
                minute = self._minutes[key]
                if minute.digest:
                    whole.merge_inplace(TDigest.from_bytes(minute.digest))
                fresh += minute.fresh
        fresh += [ev for at_ms, ev in more if at_ms // MINUTE_MS >= oldest]
        if fresh:
            whole.batch_update(fresh)
        return whole

    def dump(self) -> Iterator[tuple[int, bytes, tuple[float, ...]]]:
        """Return (minute, digest bytes, samples since) of each sub-window, for a snapshot."""
        for key in sorted(self._minutes):
            yield key, self._minutes[key].digest, tuple(self._minutes[key].fresh)

    def load(self, minutes: Iterable[tuple[int, bytes, tuple[float, ...]]]) -> None:
        """Load what `dump` returned."""
        self._minutes = {key: _Minute(digest, fresh) for key, digest, fresh in minutes}
