"""A tenant's money in one pool, in whole micro-dollars."""

from __future__ import annotations


class Ledger:
    """What was credited is available, reserved or consumed."""

    def __init__(self) -> None:
        self.credited = self.available = self.reserved = self.consumed = 0

    def credit(self, amount: int) -> None:
        """The budget grows, or shrinks."""
        self.credited += amount
        self.available += amount

    def reserve(self, amount: int) -> None:
        """A task began."""
        self.available -= amount
        self.reserved += amount

    def settle(self, reserved: int, actual: int) -> None:
        """Work ended: what was reserved is free again, and what it cost is gone."""
        self.reserved -= reserved
        self.available += reserved - actual
        self.consumed += actual

    def row(self) -> tuple[int, int, int, int]:
        """Credited, available, reserved, consumed."""
        return self.credited, self.available, self.reserved, self.consumed
