"""The real router in memory, fed as its worker would feed it: offsets, times, and ticks when something falls due."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.decision import Decision
from schemas.events import Event, SlotFreed, Tick
from schemas.input import Input, topic_of
from schemas.vocabulary import INPUT_TOPICS, Millis, from_millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import SlotwiseError
from streams.simulate.job import EPOCH_MS, POOL


class EventRefused(SlotwiseError):
    """The router refused an event of the simulation, which would be a dead letter; the message is its reason."""


class MemoryRouter:
    """One pool of one partition; times are milliseconds of virtual time, from 0."""

    def __init__(self, rulebook: Rulebook) -> None:
        self.router = Router(0, rulebook)
        self._offsets = [0] * len(INPUT_TOPICS)
        #: The latest lease of each slot.
        self._leases: dict[str, int] = {}

    def slot_announced(self, slot_id: str, model_id: str, now_ms: int) -> SlotFreed:
        """The event with which a slot comes into service."""
        return SlotFreed(slot_id=slot_id, pool=POOL, at=from_millis(EPOCH_MS + now_ms), model=model_id)

    def slot_freed(self, slot_id: str, now_ms: int) -> SlotFreed:
        """The event with which a slot ends its latest lease."""
        return SlotFreed(slot_id=slot_id, pool=POOL, at=from_millis(EPOCH_MS + now_ms), lease=self._leases[slot_id])

    def handle(self, now_ms: int, events: Iterable[Event]) -> list[Decision]:
        """Handle these events in one step, which becomes part of the state; return the decisions that routed a task.

        Raises:
            EventRefused: one of the events is not valid.
        """
        now = Millis(EPOCH_MS + now_ms)
        step = self.router.handle([self._input(event, now) for event in events])
        if step.rejected:
            raise EventRefused(step.rejected[0].reason)
        self.router.apply(step)
        routed = [one for one in step.decisions if one.outcome == "routed"]
        self._leases.update(
            (one.chosen_slot_id, one.lease)
            for one in routed
            if one.chosen_slot_id is not None and one.lease is not None
        )
        return routed

    def due_ms(self) -> int | None:
        """When something falls due in the router; None: nothing will."""
        due_ms = self.router.due_ms()
        return None if due_ms is None else due_ms - EPOCH_MS

    def tick(self, now_ms: int) -> list[Decision]:
        """Let the router act on what is due although no event came."""
        tick = Tick(control_id=f"tick-{now_ms}", at=from_millis(EPOCH_MS + now_ms), by="simulation")
        return self.handle(now_ms, [tick])

    def _input(self, event: Event, now: Millis) -> Input:
        topic = topic_of(event)
        self._offsets[topic] += 1
        return Input(topic=topic, offset=self._offsets[topic], now_ms=now, event=event)
