"""An installation followed while it runs: the state of every partition as its journal says, and what was decided last.

Each partition is recovered as its worker would recover it, and then kept at the journal's end. A follower changes
nothing: a router here answers questions, and its answers are not part of any history. After an outage or a journal
that cannot be read the following begins again; `trouble` says why it stands still.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing, suppress
from functools import cached_property
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Decision, Finished, SlotRow, Step, TaskRow
from schemas.events import TaskRouted
from schemas.steps import decode_step
from schemas.vocabulary import Millis, StopReason, from_millis
from streams.backoff import Backoff
from streams.clock import SystemClock
from streams.collector import set_aside
from streams.core.router import Router
from streams.errors import SlotwiseError
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaJournal
from streams.operate.feed import Feed
from streams.operate.portion import Portion
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.outputs import task_routed
from streams.partition.ports import JournalPosition
from streams.partition.reader import JournalReader
from streams.partition.recovery import apply, recover
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import home_of, names
from streams.views.backlog import Backlog
from streams.views.overview import RecoveredPartition
from streams.views.pulse import Pulse

_log = logging.getLogger(__name__)

#: Tasks whose latest decisions are remembered; older ones are in the audit.
TASKS_MAX: Final = 20_000
#: Decisions of one task that are remembered.
DECISIONS_OF_A_TASK_MAX: Final = 8
#: Before the following begins again.
PAUSE: Final = Backoff(0.2, 5.0)
#: The event loop answers requests as well: after so long, which a single step may exceed, the following rests for as
#: long as it has worked, and so leaves half of the loop's time to them whatever comes.
PORTION_S: Final = 0.002
#: Rest after each answer of the broker with something new: what comes meanwhile is fetched together. A fetch
#: takes about a millisecond of our processor, and with the embedded broker another of the broker's.
REST_S: Final = 0.02
#: The latest decisions of all tasks.
LATEST_MAX: Final = 1_000


class Decided(Struct, frozen=True, gc=False):
    """A decision, and the step that holds it, without its other rows."""

    decision: Decision
    step: Step


class FollowedRouter(Router):
    """A router that reports each step that it applied."""

    report: Callable[[Step], None] | None = None

    @cached_property
    def backlog(self) -> Backlog:
        """What waits here, in order."""
        return Backlog(self)

    def apply(self, step: Step) -> None:
        """Make a step part of the state, and report it."""
        super().apply(step)
        self.backlog.take(step)
        if self.report is not None:
            self.report(step)


class Following:
    """Follows every partition of an installation within one event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        #: Partitions at their journals' ends, by number; complete as soon as `ready`.
        self.partitions: dict[int, RecoveredPartition] = {}
        #: Why the state stands still; None: it does not.
        self.trouble: str | None = "The journal was not read yet."
        #: The latest decisions of all tasks, oldest first.
        self.latest: deque[Decided] = deque(maxlen=LATEST_MAX)
        #: How the last hour went.
        self.pulse = Pulse()
        # Tuples: the garbage collector does not look at those of rows, and would at as many deques.
        self._of_task: OrderedDict[tuple[str, str], tuple[Decided, ...]] = OrderedDict()
        self._home = home_of(settings.partitions)
        self._changed = asyncio.Event()
        #: What happens from when the state is known on.
        self.feed = Feed()
        self._live = False

    # What is known -----------------------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether the state of every partition is known and kept up to date."""
        return self.trouble is None

    @property
    def backlogs(self) -> list[Backlog]:
        """What waits in each partition, in order."""
        routers = (one.router for one in self.partitions.values())
        return [one.backlog for one in routers if isinstance(one, FollowedRouter)]

    def router(self, pool: str) -> Router | None:
        """Return the router of a pool's partition; None before it was read."""
        found = self.partitions.get(self.home(pool))
        return None if found is None else found.router

    def task(self, pool: str, task_id: str) -> TaskRow | None:
        """Return a task that is not finished."""
        router = self.router(pool)
        return None if router is None else router.task(pool, task_id)

    def finished(self, pool: str, task_id: str) -> Finished | None:
        """Return the end of a task, for as long as the router remembers it."""
        router = self.router(pool)
        found = None if router is None else router.state.pools.get(pool)
        return None if found is None else found.finished.get(task_id)

    def home(self, pool: str) -> int:
        """Return the partition of a pool."""
        return self._home(pool.encode())

    def slot(self, pool: str, slot_id: str) -> SlotRow | None:
        """Return a registered slot."""
        router = self.router(pool)
        found = None if router is None else router.state.pools.get(pool)
        return None if found is None else found.slots.get(slot_id)

    def decisions(self, pool: str, task_id: str) -> tuple[Decided, ...]:
        """Return the remembered decisions about a task, oldest first; earlier ones are in the audit."""
        return self._of_task.get((pool, task_id), ())

    def work(self, pool: str, slot_id: str) -> TaskRouted | None:
        """Return what a leased slot works on, as `task.routed` has it, with its lease as it ends now; None: nothing."""
        slot, router = self.slot(pool, slot_id), self.router(pool)
        if slot is None or router is None or slot.state != "leased" or slot.task_id is None:
            return None
        row = router.task(pool, slot.task_id)
        if row is None or row.status.slot_id != slot_id or row.status.lease != slot.lease or row.status.cancelled:
            return None
        known = [
            one
            for one in self.decisions(pool, slot.task_id)
            if one.decision.decision_id == row.status.decision_id and one.decision.outcome == "routed"
        ]
        expires_at = from_millis(slot.lease_expires_at_ms or Millis(0))
        if known:
            decision = known[-1].decision
            event = task_routed(decision, known[-1].step, {(pool, slot.task_id, decision.accepted_seq): row.task})
            return replace(event, lease_expires_at=expires_at)
        return _without_decision(router, row, slot, expires_at)

    def stop_reason(self, pool: str, slot_id: str, lease: int) -> StopReason | None:
        """Return why a slot's work under a lease is to stop, as `task.cancelled` has it; None: it is not.

        The work of a lease that its slot has freed is over, and nothing is to stop.
        """
        slot = self.slot(pool, slot_id)
        if slot is None:
            return "slot_retired" if self.ready else None
        if slot.lease > lease:
            return "lease_lost"
        if slot.lease < lease:  # the state is a moment behind
            return None
        if slot.state == "leased":
            row = None if slot.task_id is None else self.task(pool, slot.task_id)
            return "cancelled" if row is not None and row.status.cancelled else None
        return None if slot.unreported is None else "lease_lost"

    # Waiting for more --------------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], bool], wait_s: float) -> bool:
        """Wait until a condition on the state holds, at most so long; return whether it does."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not condition():
                    await self._changed.wait()
        return condition()

    # Following ---------------------------------------------------------------------------------------------------

    async def run(self, stop: asyncio.Event) -> None:
        """Follow until `stop` is set."""
        failures = 0
        ending = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                following = asyncio.ensure_future(self._follow())
                await asyncio.wait({following, ending}, return_when=asyncio.FIRST_COMPLETED)
                following.cancel()
                (end,) = await asyncio.gather(following, return_exceptions=True)
                if stop.is_set():
                    return
                failures = 0 if self._live else failures + 1
                if self._live:
                    self.feed.break_off()
                self._live = False
                self.trouble = (
                    str(end) if isinstance(end, SlotwiseError) else f"The journal cannot be followed: {end!r}."
                )
                _log.warning("%s", self.trouble)
                self._wake()
                with suppress(TimeoutError):
                    async with asyncio.timeout(PAUSE.pause_s(failures)):
                        await stop.wait()
        finally:
            ending.cancel()
            await asyncio.gather(ending, return_exceptions=True)

    async def _follow(self) -> None:
        rulebook, known = file_rulebook(self.settings), names(self.settings)
        async with Broker(self.settings) as broker:
            readers: dict[int, JournalReader[Step]] = {}
            for partition in range(self.settings.partitions):

                def make(chunks: Iterable[bytes] | None, partition: int = partition) -> FollowedRouter:
                    router = (
                        FollowedRouter(partition, rulebook)
                        if chunks is None
                        else FollowedRouter.restore(partition, rulebook, chunks)
                    )
                    router.report = self.applied
                    return router

                journal = KafkaJournal(broker, known, partition)
                checkpoints = AlternatingCheckpoints(partition, KafkaCompacted(broker, known, partition), SystemClock())
                found = await recover(partition, journal, checkpoints, make)
                self.partitions[partition] = RecoveredPartition(router=found.machine, decided_by=found.decided_by)
                readers[partition] = JournalReader(
                    partition,
                    decode_step,
                    start=JournalPosition(found.end, found.machine.seq),
                    journal=found.journal_id,
                )
            set_aside()
            self.trouble, self._live = None, True
            self._wake()
            starts = {number: one.offset for number, one in readers.items()}
            async with aclosing(broker.tail(known.journal, starts, rest_s=REST_S)) as runs:
                async for partition, records in runs:
                    portion = Portion(PORTION_S, asyncio.get_running_loop().time)
                    for record in records:
                        step = readers[partition].take(record.offset, record.value or b"")
                        # Between reading and taking as well: a step may hold a thousand decisions.
                        await self._rest(portion)
                        if step is not None:
                            self._take(partition, record.offset, step)
                            await self._rest(portion)
                    self._wake()

    async def _rest(self, portion: Portion) -> None:
        if portion.used_up:
            self._wake()
            await portion.rest()

    def _take(self, partition: int, offset: int, step: Step) -> None:
        one = self.partitions[partition]
        apply(partition, one.router, offset, step)
        if one.decided_by != (step.policy, step.catalog):
            self.partitions[partition] = replace(one, decided_by=(step.policy, step.catalog))

    def applied(self, step: Step) -> None:
        """Remember what a step decided, and announce it."""
        self.pulse.add(step)
        head = Step(
            partition=step.partition,
            seq=step.seq,
            now_ms=step.now_ms,
            mode=step.mode,
            policy=step.policy,
            catalog=step.catalog,
        )
        # Copies: the originals keep the whole record of their step in memory.
        decisions = tuple(replace(one, alternatives=one.alternatives.copy()) for one in step.decisions)
        for decision in decisions:
            decided = Decided(decision, head)
            self.latest.append(decided)
            key = (decision.pool, decision.task_id)
            of_task = self._of_task.pop(key, ())
            if not any(one.decision.decision_id == decision.decision_id for one in of_task):
                of_task = (*of_task, decided)[-DECISIONS_OF_A_TASK_MAX:]
            self._of_task[key] = of_task
        while len(self._of_task) > TASKS_MAX:
            self._of_task.popitem(last=False)
        if self._live and (decisions or step.ended or step.stopped):
            self.feed.put(replace(head, decisions=decisions, work=step.work, ended=step.ended, stopped=step.stopped))

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()


def _without_decision(router: Router, row: TaskRow, slot: SlotRow, expires_at: str) -> TaskRouted:
    """Make the event of a lease from the rows: its decision was made before the following began."""
    task, status, rulebook = row.task, row.status, router.rulebook
    model = rulebook.models[slot.model]
    return TaskRouted(
        decision_id=status.decision_id or "",
        task_id=task.task_id,
        pool=task.pool,
        slot_id=slot.slot_id,
        model=slot.model,
        tier=model.tier,
        lease=slot.lease,
        lease_expires_at=expires_at,
        lease_renewals_max=slot.renewals_left,
        max_tokens=rulebook.answer_tokens(task, rulebook.complexity(task), model),
        reason="Its decision is in the audit.",
        attempt=status.attempt,
        decided_at=from_millis(slot.since_ms),
        mode=router.mode,
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        account=slot.account,
        provider=model.provider,
        title=task.title,
        tenant_id=task.tenant_id,
        agent_role=task.agent_role,
        task_type=task.task_type,
        input_tokens=task.input_tokens,
        deadline=task.deadline,
        ref=task.ref,
        labels=task.labels,
        payload=task.payload,
    )


def partitions_with(following: Following, pool: str | None) -> Mapping[int, RecoveredPartition]:
    """Return the partitions that are known, or of them the one of a pool."""
    if pool is None:
        return dict(following.partitions)
    return {number: one for number, one in following.partitions.items() if pool in one.router.state.pools}
