r"""One partition: takes delivered inputs, decides, writes the step to the journal, and only then applies it.

Owns the state machine of one partition and is its only writer in this process. The state changes by confirmed steps
alone:

    take from the inbox -> handle (pure) -> dead letters, forwards -> append -> offset as expected? -> apply
                                                                  \-> read back, take the next seq only, decide again

It does not know Faust or Kafka: all that touches them is given as ports. It never guesses: an append whose outcome is
unknown is looked up in the journal, a gap in the input is fetched, and what it cannot explain ends the worker with a
sentence.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from schemas.events import Tick
from schemas.vocabulary import INPUT_TOPICS
from streams import metrics
from streams.partition import deciding, recovery, step_metrics
from streams.partition.advising import Advising
from streams.partition.checkpointing import Checkpointing
from streams.partition.halt import Halt, Halted
from streams.partition.inbox import REFETCH_RECORDS_MAX, Gap, Inbox
from streams.partition.input_lag import InputLag
from streams.partition.journal_id import new_id
from streams.partition.ports import Behind, DeadLetter, Forward, JournalPosition, PartitionError
from streams.partition.received import Received, RecordReader, cut_at_activations
from streams.partition.ticking import Ticking

if TYPE_CHECKING:
    from schemas.decision import Step
    from streams.partition.ports import Limits, MakeStateMachine, Ports, Raw, StateMachine

_log = logging.getLogger(__name__)

_TOPICS = range(len(INPUT_TOPICS))


class Health(Struct, frozen=True, kw_only=True):
    """State of a worker, for the readiness page."""

    working: bool
    seq: int
    #: 0 when nothing waits.
    oldest_unjournaled_s: float
    #: Since the journal last acknowledged a step; None: never in this process.
    last_ack_s: float | None


class PartitionWorker:
    """See the module: `recover`, then `start`; `offer` records; `halt` and `start` around a rebalance."""

    def __init__(self, partition: int, make: MakeStateMachine[StateMachine], ports: Ports, limits: Limits) -> None:
        self.partition = partition
        self._make = make
        self._ports = ports
        self._limits = limits
        self._machine: StateMachine | None = None
        #: Where the journal ends as far as this worker has read or written it.
        self._end = 0
        #: Id of the journal; made up here while no step that counts has one.
        self._journal_id = new_id(ports.clock.now_ms())
        self._identified = False
        #: Where this process began to read the journal.
        self._base = JournalPosition(0, 0)
        self._inbox = Inbox(ports.pressure)
        self._input_lag = InputLag()
        self._reader = RecordReader(partition, ports.home)
        self._advising = Advising(partition, ports.advisor)
        self._ticking = Ticking(partition, ports.ticks, ports.clock, ports.clock_watch)
        self._checkpointing = Checkpointing(partition, ports.checkpoints, ports.clock, limits)
        self._halt = Halt(partition)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Whether it was logged that an activated policy overrides the files.
        self._warned = False
        self._busy_since_s: float | None = None
        self._last_ack_s: float | None = None

    # State ----------------------------------------------------------------------------------------------------

    @property
    def machine(self) -> StateMachine:
        """The state; changed by this worker only."""
        if self._machine is None:
            raise PartitionError(f"partition {self.partition} is not recovered")
        return self._machine

    @property
    def journal_position(self) -> JournalPosition:
        """Where the journal goes on."""
        return JournalPosition(self._end, self.machine.seq)

    @property
    def working(self) -> bool:
        """Whether inputs are decided now."""
        return self._task is not None and not self._task.done()

    def position(self, topic: int) -> int:
        """Offset of the last journaled input of a topic, -1: none."""
        return self.machine.position(topic)

    def health(self) -> Health:
        """Return the state for the readiness page."""
        now_s = asyncio.get_running_loop().time()
        return Health(
            working=self.working,
            seq=self._machine.seq if self._machine is not None else 0,
            oldest_unjournaled_s=0.0 if self._busy_since_s is None else now_s - self._busy_since_s,
            last_ack_s=None if self._last_ack_s is None else now_s - self._last_ack_s,
        )

    def input_lag(self, topic: int, now_ms: int) -> Behind:
        """Return the inputs of a topic that exist and are not journaled, as of the last check of delivery."""
        return self._input_lag.of(topic, self.position(topic), *self._inbox.waiting(topic), now_ms)

    def publish_lag(self, now_ms: int) -> Behind:
        """Return what is journaled and not published."""
        return self._ports.follower.lag(now_ms)

    # Life -----------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Bring the state to the journal's end: the newest checkpoint that the journal still reaches, then its tail.

        Raises:
            JournalError: steps between the checkpoint and the journal are gone, so that the state cannot be known.
            PartitionError: a step cannot be applied.
        """
        if self._machine is not None:
            await self._read_back(offer=False)
            return
        found = await recovery.recover(
            self.partition,
            self._ports.journal,
            self._ports.checkpoints,
            self._make,
            await self._ports.published_journal(),
        )
        self._machine, self._base, self._end = found.machine, found.base, found.end
        self._identify(found.journal_id)
        self._checkpointing.saved_ms = self._ports.clock.now_ms() if found.saved_ms is None else found.saved_ms

    async def start(self) -> None:
        """Begin to decide."""
        if self.working:
            return
        if not self._warned and self._ports.rulebook is not None:
            deciding.warn_if_overridden(self.partition, self._ports.rulebook, self.machine.rulebook)
            self._warned = True
        self._halt.clear()
        self._inbox.start(self._positions())
        await self._ports.follower.start(self._base, self.journal_position, self.machine.task)
        self._task = asyncio.create_task(self._work(), name=f"partition {self.partition}")

    async def halt(self) -> None:
        """Stop after the step in hand and forget what is not journaled: it will be delivered again.

        Raises:
            Exception: what had ended the worker before.
        """
        self._halt.request()
        self._wake.set()
        task, self._task = self._task, None
        try:
            if task is not None:
                await task
        finally:
            self._inbox.clear()
            self._busy_since_s = None
            await self._ports.follower.stop()
            await self._checkpointing.stop()

    async def failed(self) -> None:
        """Wait until the worker or its follower ends by an error, and raise it; return when it was halted."""
        task = self._task
        if task is None:
            return
        following = asyncio.create_task(self._ports.follower.failed())
        try:
            await asyncio.wait((task, following), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
            await asyncio.shield(task)
        finally:
            following.cancel()

    # Deliveries -----------------------------------------------------------------------------------------------

    def offer(self, topic: int, records: Sequence[Raw], done: Callable[[], Any] | None = None) -> None:
        """Take delivered records of one topic, in offset order; `done` is called when they are journaled."""
        if records and not self._halt.requested:
            self._inbox.put(topic, records, asyncio.get_running_loop().time(), done)
            self._wake.set()

    def check_delivery(self, topic: int, end: int) -> None:
        """Compare with the topic's end: inputs that do not come by themselves, twice in a row, are fetched."""
        self._input_lag.note(topic, end, self.position(topic), self._ports.clock.now_ms())
        if self._inbox.check(topic, end):
            self._wake.set()

    # The work -------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while not self._halt.requested:
                # 1. Wait until something comes or falls due.
                await self._wait()
                # 2. Take what has arrived, each input once and in order.
                received, finished = await self._receive()
                # 3. Decide, write, apply.
                await self._journal(received)
                # 4. Durable: let the deliveries go, and save a snapshot now and then.
                for done in finished:
                    done()
                self._busy_since_s = self._inbox.oldest_s
                self._checkpointing.save_if_due(self.machine, self.journal_position)
        except Halted:
            return

    async def _wait(self) -> None:
        while True:
            # Cleared before looking: what comes from here on wakes us.
            self._wake.clear()
            if not self._inbox.idle or self._halt.requested:
                break
            timeout_s = await self._ticking.send_if_due(self.machine, asyncio.get_running_loop().time())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout_s)
        if self._limits.round_ms_min and self._inbox.records < self._limits.step_inputs_max:
            await self._halt.sleep(self._limits.round_ms_min / 1000)
        if self._inbox.oldest_s is not None:
            self._busy_since_s = self._inbox.oldest_s

    async def _receive(self) -> tuple[list[Received], list[Callable[[], Any]]]:
        """Take inputs for a step, fetch what is missing, and read them; and the deliveries that end with them."""
        for gap in self._inbox.missing():
            await self._refetch(gap)
        positions = self._positions()
        received: list[Received] = []
        finished: list[Callable[[], Any]] = []
        while True:
            taken = self._inbox.take(positions, self._limits.step_inputs_max - len(received))
            received += [self._read(topic, raw) for topic, raw in taken.records]
            finished += taken.finished
            for topic, count in taken.duplicates.items():
                metrics.DUPLICATES.labels(INPUT_TOPICS[topic]).inc(count)
            if taken.gap is None:
                return received, finished
            await self._refetch(taken.gap)

    def _read(self, topic: int, raw: Raw) -> Received:
        one = self._reader.read(topic, raw)
        if isinstance(one.event, Tick):
            self._ticking.came(one.event, raw.timestamp)
        return one

    async def _refetch(self, gap: Gap) -> None:
        topic, start, end = gap
        found = await self._halt.retry(
            f"fetching {INPUT_TOPICS[topic]} from {start} to {end - 1}, which did not come",
            lambda: self._ports.inputs.read(topic, start, end, REFETCH_RECORDS_MAX),
        )
        if found:
            metrics.REFETCHED.labels(INPUT_TOPICS[topic]).inc(len(found))
        self._inbox.put_back(gap, found, asyncio.get_running_loop().time())

    async def _journal(self, received: list[Received]) -> None:
        """Make steps of the inputs until all of them are durable; in halves where one step will not do."""
        for part in cut_at_activations(received):
            parts = deque([await self._advising.advise(part, self.machine.rulebook)])
            while parts:
                smaller = await self._step(parts.popleft())
                parts.extendleft(reversed(smaller))

    async def _step(self, received: list[Received]) -> list[list[Received]]:
        """Write one step for these inputs; return halves instead when they are too much for one."""
        failures = 0
        written: set[tuple[int, int]] = set()
        while True:
            # From this guard to the append nothing else runs that could change the state.
            received = [one for one in received if one.raw.offset > self.position(one.topic)]
            if not received:
                return []
            decided = deciding.decide(
                self.partition, self.machine, received, self._ports.clock.now_ms(), self._limits, self._journal_id
            )
            if isinstance(decided, str):
                if len(received) > 1:
                    middle = len(received) // 2
                    return [received[:middle], received[middle:]]
                received = [deciding.refused(self.partition, received[0], decided)]
                continue
            step, value = decided
            if step.rejected or step.forwarded:
                await self._write_ahead(step, received, written)
            if await self._append(step, value):
                return []
            failures += 1
            await self._halt.pause(failures)
            await self._look_up()

    async def _write_ahead(self, step: Step, received: list[Received], written: set[tuple[int, int]]) -> None:
        """Write refused and forwarded records before the step that says so: a step names none that is missing.

        Either may be repeated: a dead letter has its position and an event its id, by which duplicates are recognised.
        """
        raws = {one.position: one.raw for one in received if one.position not in written}
        dead_letters = [
            DeadLetter(one.topic, raws[one.topic, one.offset], one.reason)
            for one in step.rejected
            if (one.topic, one.offset) in raws
        ]
        if dead_letters:
            await self._halt.retry("writing dead letters", lambda: self._ports.dead_letters.write(dead_letters))
            written.update((one.topic, one.raw.offset) for one in dead_letters)
        forwards = [
            Forward(one.topic, raws[one.topic, one.offset], one.to)
            for one in step.forwarded
            if (one.topic, one.offset) in raws
        ]
        if forwards:
            await self._halt.retry(
                "forwarding records to their partitions", lambda: self._ports.forwards.write(forwards)
            )
            written.update((one.topic, one.raw.offset) for one in forwards)

    # The journal ----------------------------------------------------------------------------------------------

    async def _append(self, step: Step, value: bytes) -> bool:
        """Write the step; True: it is durable at the offset expected, and applied."""
        sent_s = time.perf_counter()
        try:
            offset = await self._ports.journal.append(value)
        except Exception as error:  # noqa: BLE001 - any failure leaves the outcome unknown; the journal has it
            metrics.APPEND_ERRORS.inc()
            _log.warning("partition %d: step %d was not acknowledged, reading back: %r",
                         self.partition, step.seq, error)  # fmt: skip
            return False
        if 0 <= offset < self._end:
            raise recovery.cut_short(self.partition, 0, offset + 1, self._end)
        if offset != self._end:
            _log.warning("partition %d: step %d landed at %d and not at %d: another worker writes, reading back",
                         self.partition, step.seq, offset, self._end)  # fmt: skip
            await self._look_up(at_least=offset + 1)
            return False
        append_s = time.perf_counter() - sent_s
        step_metrics.observe(step, step_bytes=len(value), append_s=append_s, clock_ms=self._ports.clock.now_ms())
        await self._confirm(offset, step)
        return True

    def _apply(self, offset: int, step: Step) -> None:
        self._end = offset + 1
        self._identify(step.journal)
        recovery.apply(self.partition, self.machine, offset, step)

    async def _confirm(self, offset: int, step: Step) -> None:
        self._apply(offset, step)
        self._checkpointing.keep_id(self._journal_id)
        if step.activated is not None:
            _log.info("partition %d decides by policy %s (catalogue %s) from step %d on", self.partition,
                      step.activated.policy, step.activated.catalog, step.seq)  # fmt: skip
        self._last_ack_s = asyncio.get_running_loop().time()
        while not self._ports.follower.offer(offset, step):
            await self._halt.unless_requested(self._ports.follower.room())

    async def _look_up(self, at_least: int = 0) -> None:
        """Learn from the journal what became of an append; before that, nothing can be decided."""
        await self._halt.retry("reading the journal back", lambda: self._read_back(offer=True, at_least=at_least))

    async def _read_back(self, *, offer: bool, at_least: int = 0) -> None:
        """Apply what the journal holds from the known end on; offer it to the follower, where that is running."""

        async def take(offset: int, step: Step) -> None:
            if offer:
                await self._confirm(offset, step)
            else:
                self._apply(offset, step)

        self._end = await recovery.read_tail(
            self.partition,
            self._ports.journal,
            self.journal_position,
            take,
            at_least=at_least,
            journal_id=self._journal_id if self._identified else None,
        )

    def _identify(self, journal_id: str | None) -> None:
        """Take over the id of the first step that counts and has one, also of another worker's."""
        if journal_id is not None and not self._identified:
            self._journal_id, self._identified = journal_id, True

    def _positions(self) -> list[int]:
        return [self.position(topic) for topic in _TOPICS]
