"""The ports of a worker that decides and records, and routes nothing: what it would send goes nowhere.

Its journal says what was refused, forwarded and decided. Without ticks of its own, time passes with the inputs: what
falls due in between happens at the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from streams.partition.memory import NoFollower

if TYPE_CHECKING:
    from schemas.events import Tick
    from schemas.vocabulary import Millis
    from streams.partition.ports import DeadLetter, Forward, Ports


def quiet(ports: Ports) -> Ports:
    """Return these ports without those that send, which are quiet ones instead."""
    return replace(
        ports,
        dead_letters=QuietDeadLetters(),
        forwards=QuietForwards(),
        ticks=QuietTicks(),
        follower=NoFollower(),
    )


class QuietDeadLetters:
    """Refused records stay where they are; the step names them."""

    async def write(self, dead_letters: Sequence[DeadLetter]) -> None:
        """Write nothing."""


class QuietForwards:
    """Records on the wrong partition stay there, undecided; the step names them."""

    async def write(self, forwards: Sequence[Forward]) -> None:
        """Write nothing."""


class QuietTicks:
    """No tick is sent to the live topic."""

    async def send(self, tick: Tick, now_ms: Millis) -> None:
        """Send nothing."""
