"""Which offsets of an input topic the journal has handled: a range with holes, as small as the holes are few."""

from __future__ import annotations

from collections.abc import Iterable


class Handled:
    """The handled offsets of one topic in one partition."""

    def __init__(self) -> None:
        #: None: nothing yet.
        self.first: int | None = None
        self.last: int | None = None
        self.count = 0
        #: Offsets that were passed over, ascending. A broker leaves some out itself, such as markers of transactions.
        self.holes: list[range] = []

    def add(self, offset: int) -> bool:
        """Note an offset; false, and nothing noted, if it is not behind all others."""
        if self.last is not None and offset <= self.last:
            return False
        if self.first is None or self.last is None:
            self.first = offset
        elif offset > self.last + 1:
            self.holes.append(range(self.last + 1, offset))
        self.last = offset
        self.count += 1
        return True

    def lacking(self, offsets: Iterable[int]) -> list[int]:
        """Those of the offsets that were not handled, in their order."""
        return [one for one in offsets if not self._has(one)]

    def _has(self, offset: int) -> bool:
        if self.first is None or self.last is None or not self.first <= offset <= self.last:
            return False
        return not any(offset in hole for hole in self.holes)
