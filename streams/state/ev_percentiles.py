"""What the usual EV is: P50 and P90 of what became pending in the last hour.

Per-minute sub-windows, each a t-digest of at most 512 centroids, merged when asked: exact up to some hundred
samples, and above that within the digest's error (a fraction of a percent of rank in the middle, less at the
ends). The digests are deterministic: the same samples in the same order give the same bytes anywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from fastdigest import TDigest

from schemas.vocabulary import Millis

MINUTE_MS: Final = 60_000
_CENTROIDS_MINUTE: Final = 512
_CENTROIDS_HOUR: Final = 1_024


class EvWindow:
    """The sliding hour of one pool's EVs."""

    __slots__ = ("_minutes", "window_ms")

    def __init__(self, window_ms: int) -> None:
        self.window_ms = window_ms
        self._minutes: dict[int, TDigest] = {}

    def add(self, at_ms: Millis, ev: float) -> None:
        """One more sample; samples come in the order of time."""
        minute = at_ms // MINUTE_MS
        digest = self._minutes.get(minute)
        if digest is None:
            digest = self._minutes[minute] = TDigest(_CENTROIDS_MINUTE)
            oldest = (at_ms - self.window_ms) // MINUTE_MS
            for old in [m for m in self._minutes if m < oldest]:
                del self._minutes[old]
        digest.update(ev)

    def merged(self, now_ms: Millis, more: Iterable[tuple[Millis, float]] = ()) -> TDigest:
        """All samples of the window that ends at `now_ms` as one digest, `more` included.

        The oldest sub-window is taken whole while any part of it is inside.
        """
        oldest = (now_ms - self.window_ms) // MINUTE_MS
        whole = TDigest(_CENTROIDS_HOUR)
        for minute in sorted(self._minutes):
            if minute >= oldest:
                whole.merge_inplace(self._minutes[minute])
        recent = [ev for at_ms, ev in more if at_ms // MINUTE_MS >= oldest]
        if recent:
            whole.batch_update(recent)
        return whole

    def dump(self) -> Iterator[tuple[int, bytes]]:
        """(minute, digest bytes), for a snapshot."""
        for minute in sorted(self._minutes):
            yield minute, self._minutes[minute].to_bytes()

    def load(self, minutes: Iterable[tuple[int, bytes]]) -> None:
        """What `dump` gave."""
        self._minutes = {minute: TDigest.from_bytes(raw) for minute, raw in minutes}
