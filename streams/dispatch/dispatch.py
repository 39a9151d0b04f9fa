"""Serves the slots of a fleet until it is to end: announces them, runs a job for each task, reports how it ended.

The conversation with the router is the client's (streams/client); what to run and how is in this package. Here the two
meet. A job that is stopped is reported by the reason: cancelled work with what it used, work whose lease was lost or
whose slot was retired not at all, because its task is pending again or elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from schemas.events import Outcome, TaskRouted
from schemas.vocabulary import from_millis
from streams.client.conversation import Start, Stop, Work
from streams.client.dispatcher import Dispatcher
from streams.clock import Clock
from streams.dispatch.fleet import Fleet
from streams.dispatch.job import DRAIN_S_MAX, Ended, Job
from streams.dispatch.served_slot import EventKind, Happened, ServedSlot
from streams.dispatch.slot_folder import SlotFolder, SlotInUse
from streams.together import all_of

_POLL_S: Final = 0.1
#: Looks at the connection.
_TROUBLE_S: Final = 0.5
#: A task that was routed to a slot before the router read that it leaves is here after this time.
_LATE_S: Final = 0.5


class Dispatch:
    """The slots of one fleet in service."""

    def __init__(
        self, fleet: Fleet, client: Dispatcher, root: Path, clock: Clock, report: Callable[[Happened], None]
    ) -> None:
        """`client` is not started; `root` is the folder of logs and locks; `report` receives what happens."""
        self._fleet = fleet
        self._client = client
        self._clock = clock
        self._report = report
        self.slots = [ServedSlot(slot, SlotFolder(root, slot.spec.pool, slot.spec.slot_id)) for slot in fleet.slots]
        self._by_key = {served.key: served for served in self.slots}
        self._works: set[asyncio.Task[None]] = set()
        #: No slot takes work any more.
        self.draining = False

    @property
    def trouble(self) -> str | None:
        """Why the broker takes no reports at the moment."""
        return self._client.trouble

    async def run(self, stop: asyncio.Event, kill: asyncio.Event) -> None:
        """Serve until `stop` is set, then let what runs end; after `kill` that is ended at once.

        Raises:
            SlotInUse: another dispatcher serves one of the slots.
            SlotwiseError: there is no broker, or it refuses; one sentence with what to do.
            OSError: the folders cannot be written.
        """
        try:
            await self._lock()
            await self._client.start()
            try:
                await self._serve(stop, kill)
            finally:
                await self._client.stop()
        finally:
            for served in self.slots:
                served.folder.release()

    async def _lock(self) -> None:
        """Take the slots; wait for what the commands of an earlier dispatcher have left to do."""
        loop = asyncio.get_running_loop()
        for served in self.slots:
            limit_s = loop.time() + served.slot.grace_s + DRAIN_S_MAX + 5.0
            if not served.folder.lock():
                self._say("waiting", served, reason="The command of an earlier dispatcher is ending.")
            while not served.folder.lock():
                if loop.time() > limit_s:
                    raise SlotInUse(
                        f"A command of an earlier dispatcher on slot {served.slot.spec.slot_id} does not end: see "
                        f"which process has {served.folder.path} open, and end it."
                    )
                await asyncio.sleep(_POLL_S)

    async def _serve(self, stop: asyncio.Event, kill: asyncio.Event) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(part) for part in (self._take(group), self._watch(), self._kill_on(kill))]
                # 1. Into service, which lasts as long as the broker is away.
                parts.append(group.create_task(self._announce_all()))
                # 2. Work, until it is enough.
                await stop.wait()
                parts.pop().cancel()
                # 3. No new work; what runs ends by itself, and so does what was routed before the router read that.
                self.draining = True
                self._say("draining")
                await all_of(map(self._leave, self.slots))
                await asyncio.sleep(_LATE_S)
                while self._works:
                    await asyncio.wait(self._works)
                for part in parts:
                    part.cancel()
        except ExceptionGroup as errors:
            # The keepers end what runs, because their pipes end.
            raise errors.exceptions[0] from None

    async def _announce_all(self) -> None:
        await all_of(self._announce(served) for served in self.slots)

    async def _announce(self, served: ServedSlot) -> None:
        await self._client.announce(served.slot.spec)
        served.announced = True
        self._say("announced", served)

    async def _leave(self, served: ServedSlot) -> None:
        if served.announced:
            await self._client.withdraw(served.slot.spec)
        served.left = True
        self._say("left", served)

    async def _take(self, group: asyncio.TaskGroup) -> None:
        async for action in self._client:
            served = self._by_key[action.work.slot.pool, action.work.slot.slot_id]
            match action:
                case Start(work=work):
                    served.job, served.stopping = Job(served.slot, work.task), None
                    running = group.create_task(self._work(served, work, served.job))
                    self._works.add(running)
                    running.add_done_callback(self._works.discard)
                case Stop(work=work, reason=reason):
                    if served.job is not None and served.job.routed.lease == work.task.lease:
                        served.stopping = reason
                        self._say("stopping", served, reason=reason)
                        served.job.stop()

    async def _work(self, served: ServedSlot, work: Work, job: Job) -> None:
        # 1. Run the command.
        self._say("begun", served)
        ended: Ended | None = None
        try:
            ended = await job.run(
                served.folder,
                self._clock,
                logs_keep=self._fleet.logs_keep,
                log_bytes_max=self._fleet.log_bytes_max,
            )
        except OSError as error:
            self._say("ended", served, reason=f"It could not be run: {error}.")
        else:
            self._say(
                "ended",
                served,
                exit_code=ended.exit_code,
                latency_s=round(ended.latency_s, 3),
                notes=ended.notes,
                log=str(ended.log),
            )
        # 2. Report how it ended, once the broker has it.
        outcome = self._outcome(served, ended, job)
        reason, served.job, served.stopping = served.stopping, None, None
        served.count(job.routed, outcome)
        await self._client.end(work, outcome)
        self._say(
            "reported",
            served,
            task=job.routed,
            status=outcome.status if outcome is not None else "none",
            error_class=(outcome.error_class if outcome is not None else None) or "",
            cost_usd=outcome.cost_usd if outcome is not None else None,
            reason=reason or "",
        )
        if reason == "slot_retired":
            served.left = True
            self._say("left", served)

    def _outcome(self, served: ServedSlot, ended: Ended | None, job: Job) -> Outcome | None:
        """Return what is reported of work: nothing where its task is pending again already."""
        task_id = job.routed.task_id
        if served.stopping in ("lease_lost", "slot_retired"):
            return None
        if served.stopping == "cancelled":
            return Outcome(task_id=task_id, status="cancelled") if ended is None else ended.cancelled(task_id)
        if ended is None:
            return Outcome(task_id=task_id, status="failure", error_class="cannot_run")
        if job.killed:
            return Outcome(task_id=task_id, status="failure", error_class="dispatcher_stopped")
        return ended.outcome(task_id, self._clock.now_ms())

    async def _watch(self) -> None:
        """Say when the broker takes no reports, and when it does again."""
        before: str | None = None
        while True:
            now = self._client.trouble
            if (now is None) != (before is None):
                self._say("recovered" if now is None else "trouble", reason=now or "")
            before = now
            await asyncio.sleep(_TROUBLE_S)

    async def _kill_on(self, kill: asyncio.Event) -> None:
        await kill.wait()
        for served in self.slots:
            if served.job is not None:
                served.job.kill()

    def _say(
        self, event: EventKind, served: ServedSlot | None = None, *, task: TaskRouted | None = None, **more: Any
    ) -> None:
        about: dict[str, Any] = {}
        if served is not None:
            about["pool"], about["slot_id"] = served.key
            task = task or served.task
        if task is not None:
            about |= {
                "task_id": task.task_id,
                "decision_id": task.decision_id,
                "lease": task.lease,
                "attempt": task.attempt,
            }
        self._report(Happened(at=from_millis(self._clock.now_ms()), event=event, **about, **more))
