"""The real router in memory, fed as its lane would feed it: offsets, times, ticks when something falls due."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.decision import Decision
from schemas.events import Event, SlotFreed, Tick
from schemas.input import Input
from schemas.vocabulary import INPUT_TOPICS, Millis, from_millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from tests.support.builders import START_MS, topic_of

POOL = "offline"


class Slotwise:
    """One pool; times are milliseconds from its beginning."""

    def __init__(self, book: Rulebook) -> None:
        self.router = Router(0, book)
        self._offsets = [0] * len(INPUT_TOPICS)
        #: The number under which each slot was last given away.
        self._leases: dict[str, int] = {}

    def announced(self, slot_id: str, model: str, now_ms: int) -> SlotFreed:
        """The event with which a slot comes into service."""
        return SlotFreed(slot_id=slot_id, pool=POOL, at=from_millis(START_MS + now_ms), model=model)

    def freed(self, slot_id: str, now_ms: int) -> SlotFreed:
        """The event with which a slot gives back its task."""
        return SlotFreed(slot_id=slot_id, pool=POOL, at=from_millis(START_MS + now_ms), lease=self._leases[slot_id])

    def hand_in(self, now_ms: int, events: Iterable[Event]) -> list[Decision]:
        """All these events in one step; what was routed."""
        now = Millis(START_MS + now_ms)
        step = self.router.handle([self._input(event, now) for event in events])
        assert not step.rejected, step.rejected
        self.router.apply(step)
        routed = [one for one in step.decisions if one.outcome == "routed"]
        for one in routed:
            assert one.chosen_slot_id is not None
            assert one.lease is not None
            self._leases[one.chosen_slot_id] = one.lease
        return routed

    def due_ms(self) -> int | None:
        """When it wants to be asked again."""
        due_ms = self.router.due_ms()
        return None if due_ms is None else due_ms - START_MS

    def tick(self, now_ms: int) -> list[Decision]:
        """Nothing came, and something fell due."""
        return self.hand_in(
            now_ms, [Tick(control_id=f"tick-{now_ms}", at=from_millis(START_MS + now_ms), by="offline")]
        )

    def _input(self, event: Event, now: Millis) -> Input:
        topic = topic_of(event)
        self._offsets[topic] += 1
        return Input(topic=topic, offset=self._offsets[topic], now_ms=now, event=event)
