"""slotwise as a scheduler of the simulation: everything that happens at one moment is one step of the real router."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from schemas.events import Event, TaskPending
from streams.core.policy.rulebook import Rulebook
from streams.simulate.fleet import Slot
from streams.simulate.job import Job
from streams.simulate.memory_router import MemoryRouter


class Slotwise:
    """One fleet under the router."""

    def __init__(self, rulebook: Rulebook, *, priority: int | None = None) -> None:
        """Decide by this rulebook; with `priority` every task has that one instead of its own.

        Leases of the rulebook must outlast the work: a slot whose lease runs out counts as lost.
        """
        self._router = MemoryRouter(rulebook)
        self._priority = priority
        self._jobs: dict[str, Job] = {}
        self._slots: dict[str, Slot] = {}

    def decide(self, now_ms: int, freed: Sequence[Slot], arrived: Sequence[Job]) -> list[tuple[Job, Slot]]:
        """Slots that are new are announced, others end their lease."""
        new = [slot for slot in freed if slot.slot_id not in self._slots]
        self._slots.update((slot.slot_id, slot) for slot in new)
        self._jobs.update((job.task.task_id, job) for job in arrived)
        events: list[Event] = [self._router.slot_announced(slot.slot_id, slot.model_id, now_ms) for slot in new]
        events += [self._router.slot_freed(slot.slot_id, now_ms) for slot in freed if slot not in new]
        events += [self._task(job) for job in arrived]
        routed = self._router.handle(now_ms, events) if events else self._router.tick(now_ms)
        return [(self._jobs.pop(one.task_id), self._slots[one.chosen_slot_id or ""]) for one in routed]

    def due_ms(self) -> int | None:
        """When something falls due in the router."""
        return self._router.due_ms()

    def _task(self, job: Job) -> TaskPending:
        return job.task if self._priority is None else structs.replace(job.task, priority=self._priority)
