"""The one way back: what a decision hides or spends in the indexes is undone by inverse calls, the latest first."""

from __future__ import annotations

from collections.abc import Callable


class Undo:
    """Inverse calls of the changes of one decision."""

    __slots__ = ("_inverses",)

    def __init__(self) -> None:
        self._inverses: list[Callable[[], object]] = []

    def add(self, inverse: Callable[[], object]) -> None:
        """Note how to undo what was just changed."""
        self._inverses.append(inverse)

    def run(self) -> None:
        """Undo everything."""
        inverses = self._inverses
        while inverses:
            inverses.pop()()
