r"""One partition: takes what was delivered, decides, writes the step to the journal, and only then lets it be true.

Owns one fold of one journal and is its only writer in this process. The fold changes by confirmed steps alone:

    collect -> guard -> handle (pure) -> dead letters -> append -> offset as expected? -> apply
                                                                  \-> read back, take the next seq only, decide again

It does not know Faust or Kafka: all that touches them is given. It never guesses: an append whose outcome is unknown
is looked up in the journal, a gap in the input is fetched, and what it cannot explain ends the worker with a sentence.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeVar

from msgspec import Struct

from schemas.codec import read_event
from schemas.events import Event, PolicyActivated, TaskPending, Tick
from schemas.input import Input, Unreadable
from schemas.steps import decode_step, encode_step
from schemas.trace import trace_of
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, Millis, from_millis
from streams import metrics
from streams.core.router import accept_time
from streams.partition.ports import JournalError, JournalPosition, Letter
from streams.partition.reader import JournalReader

if TYPE_CHECKING:
    from schemas.decision import Advice, Step
    from streams.clock import Clock
    from streams.core.policy.rulebook import Rulebook
    from streams.partition.ports import Checkpoints, DeadLetters, Inputs, Journal, Raw, Ticks

_log = logging.getLogger(__name__)

BACKOFF_S_MIN: Final = 0.05
BACKOFF_S_MAX: Final = 5.0
#: A tick that has not come back is sent again after this.
TICK_RETRY_S: Final = 5.0
#: Ticks keep this distance when the broker's clock is behind ours, so that waiting for it is no busy loop.
TICK_PAUSE_S: Final = 0.2
#: With so many records waiting of one topic its fetching pauses, and goes on at half of it.
INBOX_RECORDS_MAX: Final = 20_000
#: A gap is filled in pieces of this many records.
REFETCH_RECORDS_MAX: Final = 10_000
#: Keys whose partition is remembered.
KEYS_MAX: Final = 100_000
#: So many audits in a row without an arrival, and what is missing is fetched.
QUIET_AUDITS: Final = 2
#: A checkpoint is never older than this part of the time for which the journal is kept.
CHECKPOINT_AGE_PART: Final = 8


_Result = TypeVar("_Result")


class LaneError(Exception):
    """The partition cannot go on; the worker ends and says why."""


class _Halted(Exception):
    """The lane was asked to stop while it waited."""


class Fold(Protocol):
    """The router, as far as a lane knows it: `streams.core.router.Router`, or a toy in tests."""

    #: Row changes applied since the lane last set it to 0.
    changes: int

    @property
    def rulebook(self) -> Rulebook:
        """What it decides by; another one after a step that activates it."""

    @property
    def seq(self) -> int:
        """Number of the next step."""

    @property
    def now_ms(self) -> Millis:
        """Latest time so far."""

    @property
    def rows(self) -> int:
        """Number of live rows."""

    def handle(self, inputs: Sequence[Input], /) -> Step:
        """Decide without changing anything."""

    def apply(self, step: Step, /) -> None:
        """Make a confirmed step true."""

    def position(self, topic: int, /) -> int:
        """Offset of the last input handled, -1: none."""

    def due_ms(self) -> Millis | None:
        """When something falls due without an input."""

    def snapshot(self) -> Iterable[bytes]:
        """A picture of now, in chunks."""


class MakeFold(Protocol):
    """Makes the fold of a partition: empty, or from the chunks of a checkpoint."""

    def __call__(self, chunks: Iterable[bytes] | None, /) -> Fold:
        """Make it."""


class Follower(Protocol):
    """What is fed with confirmed steps, in order, while the lane works: the publisher."""

    async def start(self, base: JournalPosition, end: JournalPosition) -> None:
        """Go on from where it got to; up to `end` it reads the journal, which the lane knows from `base` on."""

    def offer(self, offset: int, step: Step) -> bool:
        """Take one confirmed step, or say that there is no room."""

    async def room(self) -> None:
        """Return when there is room again."""

    async def failed(self) -> None:
        """Wait until it ends by an error, and raise it; return when it was stopped."""

    async def stop(self) -> None:
        """Finish what was put, remember how far it got."""


class Adviser(Protocol):
    """Asks the plug-ins of one rulebook: `streams.plugins.adviser.Adviser`."""

    async def advise(self, tasks: Sequence[TaskPending], /) -> Sequence[Advice | None]:
        """What they say of each task, in order. Takes no longer than the policy allows, and leaves the loop free."""


class Limits(Struct, frozen=True, kw_only=True):
    """The numbers of the settings that a lane obeys."""

    step_inputs_max: int
    step_bytes_max: int
    round_ms_min: int
    now_ahead_ms_max: int
    checkpoint_changes_min: int
    journal_retention_hours: float


class Outside(Struct, frozen=True, kw_only=True):
    """Everything outside that a lane touches, so that a simulator can stand in for all of it."""

    journal: Journal
    inputs: Inputs
    letters: DeadLetters
    ticks: Ticks
    checkpoints: Checkpoints
    clock: Clock
    follower: Follower
    #: The partition that a key belongs to.
    home: Callable[[bytes], int]
    #: Called when a topic's inbox is full (True) and when it has room again (False).
    pressure: Callable[[int, bool], None]
    #: Who asks the plug-ins that a rulebook names; None where it names none.
    adviser: Callable[[Rulebook], Adviser | None] = lambda _: None
    #: What the files of this worker say, where somebody wants to hear that an activated policy wins over them.
    rulebook: Rulebook | None = None


class Health(Struct, frozen=True, kw_only=True):
    """How a lane fares, for the readiness page."""

    working: bool
    seq: int
    #: 0 when nothing waits.
    oldest_unjournaled_s: float
    #: Since the journal last acknowledged a step; None: never in this process.
    last_ack_s: float | None


class _Delivery:
    """A run of records of one topic, with a cursor."""

    __slots__ = ("came_s", "counted", "done", "next", "records", "topic")

    def __init__(
        self, topic: int, records: Sequence[Raw], came_s: float, done: Callable[[], Any] | None, *, counted: bool
    ) -> None:
        self.topic = topic
        self.records = records
        self.came_s = came_s
        self.done = done
        self.next = 0
        #: Whether it counts towards the inbox limit.
        self.counted = counted


class _Taken(NamedTuple):
    """A record that passed the guard, read."""

    topic: int
    raw: Raw
    event: Event | Unreadable
    traceparent: str | None
    tracestate: str | None
    #: What plug-ins said of it, once they were asked.
    advice: Advice | None = None


def cut(taken: Sequence[_Taken]) -> list[list[_Taken]]:
    """The same records in the same order, in as many steps as there must be: an activation stands alone in its own.

    What comes before it is decided by the old policy, and what comes after it is asked about and decided by the new.
    """
    parts: list[list[_Taken]] = []
    alone = True
    for one in taken:
        activates = isinstance(one.event, PolicyActivated)
        if alone or activates:
            parts.append([])
        parts[-1].append(one)
        alone = activates
    return parts


class Lane:
    """See the module: `recover`, then `start`; `offer` records; `halt` and `start` around a rebalance."""

    def __init__(self, partition: int, make: MakeFold, outside: Outside, limits: Limits) -> None:
        self.partition = partition
        self._make = make
        self._out = outside
        self._limits = limits
        self._fold: Fold | None = None
        #: Where the journal ends as far as we have read or written it.
        self._end = 0
        #: Where this process began to know the journal.
        self._base = JournalPosition(0, 0)
        self._inbox: deque[_Delivery] = deque()
        self._waiting = [0] * len(INPUT_TOPICS)
        self._full = [False] * len(INPUT_TOPICS)
        #: By topic: every existing offset below this one was put into the inbox, so a gap below it is none.
        self._sure = [0] * len(INPUT_TOPICS)
        self._arrived = [0] * len(INPUT_TOPICS)
        self._quiet = [(0, 0)] * len(INPUT_TOPICS)
        self._missing: dict[int, int] = {}
        self._homes: dict[bytes, bool] = {}
        #: Who asks the plug-ins of the rulebook for which it was made.
        self._adviser: tuple[Rulebook, Adviser | None] | None = None
        #: Whether it was said by what it decides, if that is not what the files say.
        self._told = False
        self._wake = asyncio.Event()
        self._halt = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._saving: asyncio.Task[None] | None = None
        self._saved_ms = 0
        self._tick_seq = -1
        self._tick_s = float("-inf")
        self._busy_since_s: float | None = None
        self._last_ack_s: float | None = None

    # What others ask ------------------------------------------------------------------------------------------

    @property
    def fold(self) -> Fold:
        """The state; changed by this lane only."""
        if self._fold is None:
            raise LaneError(f"partition {self.partition} is not recovered")
        return self._fold

    @property
    def mark(self) -> JournalPosition:
        """Where the journal goes on."""
        return JournalPosition(self._end, self.fold.seq)

    @property
    def working(self) -> bool:
        """Whether inputs are decided now."""
        return self._task is not None and not self._task.done()

    def position(self, topic: int) -> int:
        """Offset of the last journaled input of a topic, -1: none."""
        return self.fold.position(topic)

    def health(self) -> Health:
        """Tell how the lane fares."""
        now_s = asyncio.get_running_loop().time()
        return Health(
            working=self.working,
            seq=self._fold.seq if self._fold is not None else 0,
            oldest_unjournaled_s=0.0 if self._busy_since_s is None else now_s - self._busy_since_s,
            last_ack_s=None if self._last_ack_s is None else now_s - self._last_ack_s,
        )

    # Life -----------------------------------------------------------------------------------------------------

    async def recover(self) -> None:
        """Bring the fold to the journal's end: the newest checkpoint that the journal still reaches, then its tail.

        Raises:
            JournalError: steps between the checkpoint and the journal are gone, so that the state cannot be known.
        """
        if self._fold is None:
            await self._load()
        await self._read_back(feed=False)

    async def start(self) -> None:
        """Begin to decide."""
        if self.working:
            return
        if not self._told:
            self._tell_rulebook()
        self._halt.clear()
        self._sure = [self.position(topic) + 1 for topic in range(len(INPUT_TOPICS))]
        await self._out.follower.start(self._base, self.mark)
        self._task = asyncio.create_task(self._work(), name=f"lane {self.partition}")

    async def halt(self) -> None:
        """Stop after the step in hand and forget what is not journaled: it will be delivered again.

        Raises:
            Exception: what had ended the lane before.
        """
        self._halt.set()
        self._wake.set()
        task, self._task = self._task, None
        try:
            if task is not None:
                await task
        finally:
            self._forget()
            await self._out.follower.stop()
            if self._saving is not None:
                self._saving.cancel()
                with suppress(asyncio.CancelledError):
                    await self._saving

    async def failed(self) -> None:
        """Wait until the lane or its follower ends by an error, and raise it; return when it was halted."""
        task = self._task
        if task is None:
            return
        following = asyncio.create_task(self._out.follower.failed())
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
        if not records or self._halt.is_set():
            return
        self._inbox.append(_Delivery(topic, records, asyncio.get_running_loop().time(), done, counted=True))
        self._arrived[topic] += 1
        self._waiting[topic] += len(records)
        if self._waiting[topic] > INBOX_RECORDS_MAX and not self._full[topic]:
            self._full[topic] = True
            self._out.pressure(topic, True)  # noqa: FBT003 - full
        self._wake.set()

    def audit(self, topic: int, end: int) -> None:
        """Compare with the topic's end: what does not come by itself, twice in a row, is fetched."""
        arrived, quiet = self._quiet[topic]
        if (
            end <= max(self.position(topic) + 1, self._sure[topic])
            or self._arrived[topic] != arrived
            or self._waiting[topic]
        ):
            self._quiet[topic] = (self._arrived[topic], 0)
            return
        self._quiet[topic] = (arrived, quiet + 1)
        if quiet + 1 >= QUIET_AUDITS:
            self._missing[topic] = end
            self._wake.set()

    # The work -------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while not self._halt.is_set():
                # 1. Wait until something comes or falls due.
                await self._wait()
                # 2. Take what has arrived, each input once and in order.
                finished: list[_Delivery] = []
                taken = await self._collect(finished)
                # 3. Decide, write, apply.
                await self._journal(taken)
                # 4. Durable: let the deliveries go, and take a picture now and then.
                for delivery in finished:
                    if delivery.done is not None:
                        delivery.done()
                self._busy_since_s = self._inbox[0].came_s if self._inbox else None
                self._maybe_checkpoint()
        except _Halted:
            return

    async def _wait(self) -> None:
        while True:
            # Cleared before looking: what comes from here on wakes us.
            self._wake.clear()
            if self._inbox or self._missing or self._halt.is_set():
                break
            timeout_s = await self._tick_if_due()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), timeout_s)
        if self._limits.round_ms_min and sum(self._waiting) < self._limits.step_inputs_max:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._halt.wait(), self._limits.round_ms_min / 1000)
        if self._inbox:
            self._busy_since_s = self._inbox[0].came_s

    async def _tick_if_due(self) -> float | None:
        """Send a tick when something is due; return how long to wait for an input, in seconds."""
        due_ms = self.fold.due_ms()
        if due_ms is None:
            return None
        now_ms = self._out.clock.now_ms()
        if due_ms > now_ms:
            return (due_ms - now_ms) / 1000
        now_s = asyncio.get_running_loop().time()
        pause_s = TICK_RETRY_S if self._tick_seq == self.fold.seq else TICK_PAUSE_S
        if now_s - self._tick_s < pause_s:
            return self._tick_s + pause_s - now_s
        self._tick_seq, self._tick_s = self.fold.seq, now_s
        # The number of the next step makes the id: a tick sent twice for the same moment is one tick.
        tick = Tick(control_id=f"tick-{self.partition}-{self.fold.seq}", at=from_millis(now_ms), by="lane")
        try:
            await self._out.ticks.send(tick, now_ms)
        except Exception as error:  # noqa: BLE001 - whatever it is, the tick is sent again
            _log.warning("partition %d: a tick was not sent, trying again: %s", self.partition, error)
        return TICK_RETRY_S

    async def _collect(self, finished: list[_Delivery]) -> list[_Taken]:
        """Guard: drop what is at or before its position, fetch what is missing, read the rest."""
        for topic, end in list(self._missing.items()):
            del self._missing[topic]
            await self._refetch(topic, max(self.position(topic) + 1, self._sure[topic]), end)
        cursor = [self.position(topic) for topic in range(len(INPUT_TOPICS))]
        taken: list[_Taken] = []
        room = self._limits.step_inputs_max
        inbox = self._inbox
        while inbox and len(taken) < room:
            delivery = inbox[0]
            topic, records = delivery.topic, delivery.records
            index, start, dropped = delivery.next, delivery.next, 0
            gap_end = None
            while index < len(records) and len(taken) < room:
                raw = records[index]
                if raw.offset <= cursor[topic]:
                    dropped += 1
                elif raw.offset > cursor[topic] + 1 and raw.offset > self._sure[topic]:
                    gap_end = raw.offset
                    break
                else:
                    taken.append(self._read(topic, raw))
                    cursor[topic] = raw.offset
                index += 1
            delivery.next = index
            if dropped:
                metrics.DUPLICATES.labels(INPUT_TOPICS[topic]).inc(dropped)
            if delivery.counted:
                self._released(topic, index - start)
            if index == len(records):
                finished.append(inbox.popleft())
            if gap_end is not None:
                await self._refetch(topic, cursor[topic] + 1, gap_end)
        return taken

    async def _refetch(self, topic: int, start: int, end: int) -> None:
        """Put the records of a range before everything else; when there are none, the gap is as it should be."""
        found = await self._retry(
            f"fetching {INPUT_TOPICS[topic]} from {start} to {end - 1}, which did not come",
            lambda: self._out.inputs.read(topic, start, end, REFETCH_RECORDS_MAX),
        )
        if found:
            metrics.REFETCHED.labels(INPUT_TOPICS[topic]).inc(len(found))
            came_s = asyncio.get_running_loop().time()
            self._inbox.appendleft(_Delivery(topic, found, came_s, None, counted=False))
        self._sure[topic] = end if len(found) < REFETCH_RECORDS_MAX else found[-1].offset + 1

    def _read(self, topic: int, raw: Raw) -> _Taken:
        name = INPUT_TOPICS[topic]
        try:
            headers = raw.headers or ()
            event: Event | Unreadable
            if raw.key is None and name != FLEET_CONTROL:
                event = Unreadable("The record has no key: send it with its pool as the key.")
            elif raw.key is not None and not self._is_home(raw.key):
                event = Unreadable(
                    f"The record is on partition {self.partition}, but its key belongs to partition "
                    f"{self._out.home(raw.key)}: send it with the default partitioner (murmur2)."
                )
            else:
                event = read_event(name, raw.key, raw.value, headers)
            traceparent, tracestate = trace_of(headers)
        except Exception as error:  # noqa: BLE001 - it promises not to raise; a bug there must not stop the stream
            _log.exception("%s[%d]@%d: reading failed", name, self.partition, raw.offset)
            metrics.INVARIANT_VIOLATIONS.labels("reader_raised").inc()
            event, traceparent, tracestate = Unreadable(f"Reading failed: {error!r}."), None, None
        return _Taken(topic, raw, event, traceparent, tracestate)

    def _is_home(self, key: bytes) -> bool:
        known = self._homes.get(key)
        if known is None:
            if len(self._homes) >= KEYS_MAX:
                self._homes.clear()
            known = self._homes[key] = self._out.home(key) == self.partition
        return known

    async def _journal(self, taken: list[_Taken]) -> None:
        """Make steps of the inputs until all of them are durable; in halves where one step will not do."""
        for part in cut(taken):
            parts = deque([await self._advised(part)])
            while parts:
                smaller = await self._step(parts.popleft())
                parts.extendleft(reversed(smaller))

    async def _advised(self, taken: list[_Taken]) -> list[_Taken]:
        """Ask the plug-ins about the tasks, once: what they say is in the journal from here on."""
        rulebook = self.fold.rulebook
        if self._adviser is None or self._adviser[0] is not rulebook:
            self._adviser = (rulebook, self._out.adviser(rulebook))
        adviser = self._adviser[1]
        if adviser is None:
            return taken
        tasks = [one.event for one in taken if isinstance(one.event, TaskPending)]
        if not tasks:
            return taken
        try:
            advice = iter(await adviser.advise(tasks))
        except Exception:  # noqa: BLE001 - it promises not to raise; a bug there must not stop the stream
            _log.exception("partition %d: asking the plug-ins failed; decided without them", self.partition)
            metrics.INVARIANT_VIOLATIONS.labels("adviser_raised").inc()
            return taken
        return [one._replace(advice=next(advice)) if isinstance(one.event, TaskPending) else one for one in taken]

    async def _step(self, taken: list[_Taken]) -> list[list[_Taken]]:
        """Write one step for these inputs; return halves instead when they are too much for one."""
        attempt = 0
        buried: set[tuple[int, int]] = set()
        while True:
            # From this guard to the append nothing else runs that could change the fold.
            taken = [one for one in taken if one.raw.offset > self.fold.position(one.topic)]
            if not taken:
                return []
            decided = self._decide(taken)
            if isinstance(decided, str):
                if len(taken) > 1:
                    middle = len(taken) // 2
                    return [taken[:middle], taken[middle:]]
                taken = [self._refused(taken[0], decided)]
                continue
            step, value = decided
            if step.rejected:
                await self._bury(step, taken, buried)
            if await self._append(step, value):
                return []
            attempt += 1
            await self._pause(attempt)
            await self._look_up()

    def _decide(self, taken: list[_Taken]) -> tuple[Step, bytes] | str:
        """Return the step and its encoding, or why there can be none for these inputs together."""
        began_s = time.perf_counter()
        try:
            step = self.fold.handle(self._timed(taken))
            value = encode_step(step)
        except Exception as error:  # noqa: BLE001 - whatever a pure function raises stays in the lane
            _log.warning("partition %d: the router failed on %d inputs from %s@%d", self.partition, len(taken),
                         INPUT_TOPICS[taken[0].topic], taken[0].raw.offset, exc_info=len(taken) == 1)  # fmt: skip
            return f"the router failed on it: {error!r}"
        metrics.DECISION_SECONDS.observe((time.perf_counter() - began_s) / len(taken))
        if len(value) > self._limits.step_bytes_max:
            return f"its step has {len(value)} bytes, and {self._limits.step_bytes_max} are allowed"
        return step, value

    async def _append(self, step: Step, value: bytes) -> bool:
        """Write the step; True: it is durable, where we expected it, and true."""
        sent_s = time.perf_counter()
        try:
            offset = await self._out.journal.append(value)
        except Exception as error:  # noqa: BLE001 - any failure leaves the outcome unknown; the journal tells
            metrics.APPEND_ERRORS.inc()
            _log.warning("partition %d: step %d was not acknowledged, reading back: %r",
                         self.partition, step.seq, error)  # fmt: skip
            return False
        if 0 <= offset < self._end:
            raise self._cut(0, offset + 1)
        if offset != self._end:
            _log.warning("partition %d: step %d landed at %d and not at %d: somebody else writes, reading back",
                         self.partition, step.seq, offset, self._end)  # fmt: skip
            await self._look_up(at_least=offset + 1)
            return False
        self._end += 1
        self._measure(step, len(value), time.perf_counter() - sent_s)
        await self._confirm(offset, step)
        return True

    def _refused(self, one: _Taken, problem: str) -> _Taken:
        """The same input, to be rejected, so that the position moves on."""
        if isinstance(one.event, Unreadable):
            raise LaneError(
                f"{INPUT_TOPICS[one.topic]}[{self.partition}]@{one.raw.offset} cannot even be rejected: {problem}. "
                "Report this with the record and the partition's last journal records."
            )
        metrics.INVARIANT_VIOLATIONS.labels("router_raised").inc()
        return one._replace(event=Unreadable(f"Not decided: {problem}."))

    def _timed(self, taken: list[_Taken]) -> list[Input]:
        """Give each input the time it brings: its record's, never going back, never far ahead of our clock."""
        clock_ms = self._out.clock.now_ms()
        now_ms = self.fold.now_ms
        ahead_ms_max = self._limits.now_ahead_ms_max
        inputs = []
        for one in taken:
            stamp_ms = one.raw.timestamp
            # A record without a timestamp gets ours.
            now_ms = accept_time(clock_ms if stamp_ms < 0 else stamp_ms, now_ms, clock_ms, ahead_ms_max)
            inputs.append(
                Input(one.topic, one.raw.offset, now_ms, one.event, one.traceparent, one.tracestate, one.advice)
            )
        return inputs

    async def _bury(self, step: Step, taken: list[_Taken], buried: set[tuple[int, int]]) -> None:
        """Write the refused records before the step that says so: a step never names a letter that is not there."""
        raws = {(one.topic, one.raw.offset): one.raw for one in taken}
        letters = [
            Letter(one.topic, raws[one.topic, one.offset], one.reason)
            for one in step.rejected
            if (one.topic, one.offset) in raws and (one.topic, one.offset) not in buried
        ]
        if letters:
            # Again and again is right: letters carry their position, by which readers tell duplicates.
            await self._retry("writing dead letters", lambda: self._out.letters.write(letters))
            buried.update((letter.topic, letter.raw.offset) for letter in letters)

    async def _confirm(self, offset: int, step: Step) -> None:
        self._apply(offset, step)
        if step.activated is not None:
            _log.info("partition %d decides by policy %s (catalogue %s) from step %d on", self.partition,
                      step.activated.policy, step.activated.catalog, step.seq)  # fmt: skip
        self._last_ack_s = asyncio.get_running_loop().time()
        while not self._out.follower.offer(offset, step):
            await self._unless_halted(self._out.follower.room())

    def _apply(self, offset: int, step: Step) -> None:
        try:
            self.fold.apply(step)
        except Exception as error:
            metrics.INVARIANT_VIOLATIONS.labels("step_not_applied").inc()
            raise LaneError(
                f"Step {step.seq} of partition {self.partition} (journal offset {offset}) cannot be applied: "
                f"{error!r}. Run the version that wrote it, or report this with the journal."
            ) from error

    def _measure(self, step: Step, size: int, append_s: float) -> None:
        metrics.STEPS.inc()
        metrics.STEP_BYTES.inc(size)
        metrics.APPEND_SECONDS.observe(append_s)
        metrics.LAST_EVENT.labels(str(self.partition)).set(step.now_ms / 1000)
        metrics.EVENT_TO_DECISION_SECONDS.observe(max(0, self._out.clock.now_ms() - step.inputs[0].now_ms) / 1000)
        for one in step.rejected:
            metrics.DEAD_LETTERS.labels(INPUT_TOPICS[one.topic]).inc()
        decided = Counter((one.outcome, one.reason_code, metrics.pool_label(one.pool)) for one in step.decisions)
        for labels, count in decided.items():
            metrics.DECISIONS.labels(*labels).inc(count)
        routed = Counter((one.pool, one.strategy, one.fallback) for one in step.decisions if one.outcome == "routed")
        for (pool, strategy, fallback), count in routed.items():
            metrics.ROUTED.labels(metrics.pool_label(pool), strategy, str(fallback).lower()).inc(count)
        failed = Counter(one.pool for one in step.decisions if one.reason_code == "router_error")
        for pool, count in failed.items():
            metrics.ROUTER_ERRORS.labels(metrics.pool_label(pool)).inc(count)
        for what, count in step.counts.items():
            metrics.COUNTED.labels(what).inc(count)

    # The journal ----------------------------------------------------------------------------------------------

    async def _load(self) -> None:
        # In this order: a checkpoint that is written while somebody else looks on is never beyond the end that is seen.
        checkpoints = await self._out.checkpoints.load()
        first, end = await self._out.journal.bounds()
        for checkpoint in checkpoints:
            mark = checkpoint.mark
            if mark.offset > end:
                raise JournalError(
                    f"The journal of partition {self.partition} ends at {end}, but a checkpoint was taken at "
                    f"{mark.offset}: the journal was deleted or cut. Restore it, or start a new installation "
                    "(another group and topic prefix)."
                )
            if mark.offset < first:
                break
            try:
                fold = self._make(checkpoint.chunks)
            except Exception as error:  # noqa: BLE001 - of another version, say: the next one or the whole journal will do
                _log.warning(
                    "partition %d: the checkpoint at step %d cannot be used: %r", self.partition, mark.seq, error
                )
                continue
            if fold.seq != mark.seq:
                _log.warning(
                    "partition %d: the checkpoint at step %d holds step %d", self.partition, mark.seq, fold.seq
                )
                continue
            self._begin(fold, mark, checkpoint.at_ms)
            return
        if first > 0:
            raise JournalError(
                f"The journal of partition {self.partition} begins at offset {first} and no checkpoint reaches it, so "
                "that its state cannot be known: restore the journal or the checkpoint topic from a copy, or start a "
                "new installation (another group and topic prefix) after a drain."
            )
        self._begin(self._make(None), JournalPosition(0, 0), self._out.clock.now_ms())

    def _begin(self, fold: Fold, mark: JournalPosition, saved_ms: int) -> None:
        self._fold, self._base, self._end, self._saved_ms = fold, mark, mark.offset, saved_ms

    async def _read_back(self, *, feed: bool, at_least: int = 0) -> None:
        """Fold what the journal holds from the known end on: the first record with the next `seq` counts, no other."""
        first, end = await self._out.journal.bounds()
        end = max(end, at_least)
        if end < self._end or first > self._end:
            raise self._cut(first, end)
        remaining = metrics.RECOVERY_REMAINING.labels(str(self.partition))
        reader = JournalReader(self.partition, decode_step, start=self.mark)
        async with aclosing(self._out.journal.read(self._end, end)) as runs:
            async for run in runs:
                for entry in run:
                    step = reader.take(entry.offset, entry.value)
                    self._end = entry.offset + 1
                    if step is None:
                        metrics.FENCED.inc()
                    elif feed:
                        await self._confirm(entry.offset, step)
                    else:
                        self._apply(entry.offset, step)
                remaining.set(end - self._end)
                await asyncio.sleep(0)
        self._end = end
        remaining.set(0)

    def _cut(self, first: int, end: int) -> JournalError:
        return JournalError(
            f"The journal of partition {self.partition} holds offsets {first} to {end}, but was read up to {self._end} "
            "before: it was deleted or cut while we ran. Restore it before starting again."
        )

    async def _look_up(self, at_least: int = 0) -> None:
        """Learn from the journal what became of an append; until it tells, nothing can be decided."""
        await self._retry("reading the journal back", lambda: self._read_back(feed=True, at_least=at_least))

    # Small things ---------------------------------------------------------------------------------------------

    async def _retry(self, what: str, action: Callable[[], Awaitable[_Result]]) -> _Result:
        """Do something that is right to do again, until it works; what a person must look at is raised."""
        attempt = 0
        while True:
            try:
                return await action()
            except (JournalError, LaneError, _Halted):
                raise
            except Exception as error:  # noqa: BLE001 - a broker that is away can fail in any way
                attempt += 1
                _log.warning("partition %d: %s failed, trying again: %r", self.partition, what, error)
                await self._pause(attempt)

    async def _pause(self, attempt: int) -> None:
        """Back off, with jitter; a halt ends the wait and the round."""
        wait_s = min(BACKOFF_S_MAX, BACKOFF_S_MIN * 2 ** min(attempt, 10)) * random.uniform(0.5, 1.0)  # noqa: S311
        await self._unless_halted(asyncio.sleep(wait_s))

    async def _unless_halted(self, wait: Coroutine[Any, Any, None]) -> None:
        waiting, halted = asyncio.ensure_future(wait), asyncio.ensure_future(self._halt.wait())
        try:
            await asyncio.wait((waiting, halted), return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
            halted.cancel()
        if self._halt.is_set():
            raise _Halted

    def _tell_rulebook(self) -> None:
        """Say once when it is not the worker's files that decide."""
        ours, files, self._told = self.fold.rulebook, self._out.rulebook, True
        if files is not None and (ours.policy_hash, ours.catalog_hash) != (files.policy_hash, files.catalog_hash):
            _log.warning(
                "partition %d decides by the activated policy %s (catalogue %s); the file's is %s (%s): "
                "`slotwise policy activate` to change",
                self.partition, ours.policy_hash, ours.catalog_hash, files.policy_hash, files.catalog_hash,
            )  # fmt: skip

    def _released(self, topic: int, count: int) -> None:
        self._waiting[topic] -= count
        if self._full[topic] and self._waiting[topic] <= INBOX_RECORDS_MAX // 2:
            self._full[topic] = False
            self._out.pressure(topic, False)  # noqa: FBT003 - room again

    def _forget(self) -> None:
        self._inbox.clear()
        self._missing.clear()
        self._busy_since_s = None
        for topic in range(len(INPUT_TOPICS)):
            self._released(topic, self._waiting[topic])

    def _maybe_checkpoint(self) -> None:
        fold = self.fold
        if self._saving is not None and not self._saving.done():
            return
        age_ms = self._out.clock.now_ms() - self._saved_ms
        old = age_ms > self._limits.journal_retention_hours * 3_600_000 / CHECKPOINT_AGE_PART
        if fold.changes < (1 if old else max(self._limits.checkpoint_changes_min, fold.rows // 2)):
            return
        chunks, mark, changes = fold.snapshot(), self.mark, fold.changes
        fold.changes = 0
        self._saving = asyncio.create_task(self._save(mark, chunks, changes), name=f"checkpoint {self.partition}")

    async def _save(self, mark: JournalPosition, chunks: Iterable[bytes], changes: int) -> None:
        try:
            await self._out.checkpoints.save(mark, chunks)
        except Exception as error:  # noqa: BLE001 - the journal is the truth; a picture can wait
            metrics.CHECKPOINTS.labels("failed").inc()
            _log.warning("partition %d: the checkpoint at step %d was not written: %r", self.partition, mark.seq, error)
            self.fold.changes += changes
        else:
            metrics.CHECKPOINTS.labels("written").inc()
            self._saved_ms = self._out.clock.now_ms()
