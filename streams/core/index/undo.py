"""Undoes the changes of a decision in the indexes, by inverse calls, the latest first."""

from __future__ import annotations

from collections.abc import Callable


class Undo:
    """Inverse calls of the changes of one decision."""

    __slots__ = ("_inverses",)

    def __init__(self) -> None:
        self._inverses: list[Callable[[], object]] = []

    def add(self, inverse: Callable[[], object]) -> None:
        """Add the inverse of a change."""
        self._inverses.append(inverse)

    def run(self) -> None:
        """Undo all changes."""
        inverses = self._inverses
        while inverses:
            inverses.pop()()
