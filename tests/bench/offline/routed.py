"""slotwise as a rule of the simulation: everything that happens at one moment is one step of the real router."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from schemas.events import Event, TaskPending
from streams.core.policy.rulebook import Rulebook
from tests.bench.offline.job import Job
from tests.bench.offline.place import Place
from tests.bench.offline.slotwise import Slotwise


class Routed:
    """One fleet under the router."""

    def __init__(self, book: Rulebook, *, priority: int | None = None) -> None:
        """Decide by this book; with `priority` every task says that one instead of its own."""
        self._router = Slotwise(book)
        self._priority = priority
        self._jobs: dict[str, Job] = {}
        self._places: dict[str, Place] = {}

    def decide(self, now_ms: int, freed: Sequence[Place], arrived: Sequence[Job]) -> list[tuple[Job, Place]]:
        """Slots that were never given away are announced, others give back their tasks."""
        new = [place for place in freed if place.slot_id not in self._places]
        self._places.update((place.slot_id, place) for place in new)
        self._jobs.update((job.task.task_id, job) for job in arrived)
        events: list[Event] = [self._router.announced(place.slot_id, place.model.id, now_ms) for place in new]
        events += [self._router.freed(place.slot_id, now_ms) for place in freed if place not in new]
        events += [self._told(job) for job in arrived]
        routed = self._router.hand_in(now_ms, events) if events else self._router.tick(now_ms)
        return [(self._jobs.pop(one.task_id), self._places[one.chosen_slot_id or ""]) for one in routed]

    def due_ms(self) -> int | None:
        """When something falls due in the router."""
        return self._router.due_ms()

    def _told(self, job: Job) -> TaskPending:
        return job.task if self._priority is None else structs.replace(job.task, priority=self._priority)
