"""Submits an operator's order: checks it as the router will, sends it to its partitions, follows it in the journal.

An order is one event of `fleet.control`. With a pool it is keyed by the pool and has one position, in that pool's
partition; without, the same record goes to every partition. The broker's answer gives its positions; the journal says
whether the router took it, or refused it and why. The same `control_id` twice is one order, so that giving it again is
safe.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, Self

from kafka import TopicPartition
from kafka.errors import KafkaError
from msgspec import Struct, field
from msgspec.structs import replace

from schemas.codec import read_event, write_event
from schemas.decision import Step
from schemas.events import FleetControl, PolicyActivated, SlotRetired, TaskCancelled
from schemas.input import Input, Unreadable
from schemas.steps import decode_step
from schemas.vocabulary import (
    DECISION_AUDIT,
    FLEET_CONTROL,
    INPUT_TOPICS,
    LAST_MS,
    YEAR_MAX,
    YEAR_MIN,
    Millis,
    from_millis,
    to_millis,
)
from streams.clock import SystemClock
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import MISTAKE, SlotwiseError
from streams.kafka.blocking import open_consumer, open_producer
from streams.operate.moments import FORMS, from_now
from streams.operate.read_partitions import partitions_of, read_partitions
from streams.operate.send import CONFIRM_S_MAX, SendError, records_of
from streams.partition.ports import JournalError
from streams.partition.reader import LOOKBACK_RECORDS, HoldingReader, JournalReader, ReadingError
from streams.settings import Settings
from streams.shipped import file_rulebook

SOURCE: Final = "/slotwise/operator"
_SPAN: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)", re.ASCII)
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
CONTROL: Final = INPUT_TOPICS.index(FLEET_CONTROL)
POLL_MS: Final = 100
#: How refusals name it: a name that only the workers know is no mistake of the operator.
CATALOG: Final = "the catalogue (if the workers have another, name it with --catalog)"

#: `taken`: it is in force. `known`: this partition had taken an order of that id before. `refused`: a dead letter.
#: `sent`: it is in the log, and no step of the journal has handled it yet.
Status = Literal["sent", "taken", "known", "refused"]


class ControlError(SlotwiseError):
    """An order is not valid; nothing was sent. The message says why, and what is allowed."""

    exit_code = MISTAKE


class Position(Struct, frozen=True, kw_only=True):
    """The position of an order in one partition, and its status there."""

    partition: int
    offset: int
    status: Status = field(default="sent", name="fate")
    #: The step of the journal that handled it.
    seq: int | None = None
    #: Why it was refused.
    reason: str | None = None
    #: Why an order that was taken had no effect.
    note: str | None = None


class Submitted(Struct, frozen=True, kw_only=True):
    """An order that was sent, with its status in each partition."""

    control_id: str
    kind: str
    topic: str
    at: str
    by: str
    pool: str | None
    positions: tuple[Position, ...]

    @property
    def refused(self) -> tuple[Position, ...]:
        """Positions at which the router refused it."""
        return tuple(one for one in self.positions if one.status == "refused")

    @property
    def open(self) -> tuple[Position, ...]:
        """Positions that the router has not reached yet."""
        return tuple(one for one in self.positions if one.status == "sent")


def moment(text: str, what: str = "until") -> str:
    """Return a time of any zone, or one counted from now, as events have it: UTC, with `Z`.

    Raises:
        ControlError: it is no time, has no zone, or is of a year that no event may have.
    """
    try:
        read = from_now(text, SystemClock().now_ms()) or datetime.fromisoformat(text)
    except ValueError:
        raise ControlError(f"{what} {text!r} is no ISO time, nor one from now: write it as {FORMS}.") from None
    if read.tzinfo is None:
        raise ControlError(f"{what} {text!r} does not say in which zone: end it with Z for UTC, or with +01:00.")
    # Not `astimezone`: beyond the calendar's ends it raises.
    at_ms = (read - datetime(YEAR_MIN, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
    if not 0 <= at_ms <= LAST_MS:
        raise ControlError(f"{what} {text!r} is out of range: years from {YEAR_MIN} to {YEAR_MAX} (UTC) are accepted.")
    return from_millis(at_ms)


def since_ms(text: str, now_ms: int) -> int:
    """Return the time of `3h` ago, or of an ISO time with its zone.

    Raises:
        ControlError: it is neither.
    """
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now_ms - int(span[1]) * _UNITS_MS[span[2]]
    try:
        return to_millis(moment(text, "since"))
    except ControlError as error:
        raise ControlError(f"{error} Or as a span before now: 30m, 3h, 2d.") from None


def moment_ahead(text: str, what: str = "until") -> str:
    """Read a time that must be in the future.

    Raises:
        ControlError: it is no time, or it is past.
    """
    read = moment(text, what)
    if to_millis(read) <= SystemClock().now_ms():
        raise ControlError(f"{what} {read} is past: name a moment to come (`slotwise restore` ends what is in force).")
    return read


async def named(settings: Settings, name: str) -> dict[str, str]:
    """Return the fields of an order for a name of a model or a product; a name of both is the model's.

    Raises:
        ControlError: it is neither; with the nearest name.
    """
    known: list[str] = []
    async for rulebook in _rulebooks(settings):
        if name in rulebook.models:
            return {"model": name}
        if name in rulebook.products:
            return {"product": name}
        known = [*rulebook.models, *rulebook.products]
    raise ControlError(f"{name} is neither a model nor a product of {CATALOG}.{nearest(name, known)}")


async def provider_of(settings: Settings, product: str) -> str:
    """Return the provider of a product.

    Raises:
        ControlError: the catalogue has no such product; with the nearest one.
    """
    known: dict[str, str] = {}
    async for rulebook in _rulebooks(settings):
        known = rulebook.products
        if product in known:
            return known[product]
    raise ControlError(f"{product} is no product of {CATALOG}.{nearest(product, known)}")


async def _rulebooks(settings: Settings) -> AsyncIterator[Rulebook]:
    """Yield the rulebook of the files, and then, if it lacks a name, the rulebooks in force."""
    yield file_rulebook(settings)
    yield (await read_partitions(settings, [0]))[0].router.rulebook


def refusal(router: Router, event: FleetControl) -> str | None:
    """Return the router's reason to refuse the order now; its state does not change."""
    now_ms = Millis(max(router.now_ms, SystemClock().now_ms()))
    step = router.handle([Input(CONTROL, router.position(CONTROL) + 1, now_ms, event)])
    return step.rejected[0].reason if step.rejected else None


async def check(settings: Settings, event: FleetControl) -> None:
    """Refuse an order that the router would refuse, with the router's reason, before anything is sent.

    Raises:
        ControlError: with the reason.
    """
    record = write_event(FLEET_CONTROL, event, ce_id=event.control_id, source=SOURCE, time_ms=0)
    read = read_event(FLEET_CONTROL, record.key, record.value, record.headers)
    if isinstance(read, Unreadable):
        raise ControlError(read.reason)
    if isinstance(event, PolicyActivated):
        # An activation depends on the slots and tasks of each partition.
        found = await read_partitions(settings, range(settings.partitions))
        reasons = {number: refusal(one.router, event) for number, one in found.items()}
        refusals = [f"Partition {number}: {reason}" for number, reason in reasons.items() if reason is not None]
        if refusals:
            raise ControlError(" ".join(refusals))
        return
    # The files have nearly every name; the rules in force are read only where they do not.
    reason = refusal(Router(0, file_rulebook(settings)), event)
    if reason is not None:
        (one,) = (await read_partitions(settings, partitions_of(settings, event.pool)[:1])).values()
        reason = refusal(one.router, event)
        # Where workers decide by other files, only they can check it.
        if reason is not None and one.known:
            raise ControlError(reason)


def submit(settings: Settings, event: FleetControl, *, wait_s: float | None) -> Submitted:
    """Send a checked order and, unless `wait_s` is None, wait so long for its status.

    Raises:
        SendError: the broker did not take it everywhere; the message says how to submit it again.
        JournalError: the order was sent, and its status cannot be read from the journal; the message says why.
    """
    with _Journal(settings, watched=wait_s is not None) as journal:
        positions = _send(settings, event)
        if wait_s is not None:
            positions = journal.follow(event, positions, wait_s)
    return Submitted(
        control_id=event.control_id,
        kind=str(type(event).__struct_config__.tag),
        topic=settings.topic_prefix + FLEET_CONTROL,
        at=event.at,
        by=event.by,
        pool=event.pool,
        positions=tuple(positions[number] for number in sorted(positions)),
    )


def _send(settings: Settings, event: FleetControl) -> dict[int, Position]:
    value = write_event(FLEET_CONTROL, event, ce_id=event.control_id, source=SOURCE, time_ms=0).value
    records = records_of(settings, FLEET_CONTROL, value, ce_id=event.control_id, source=SOURCE)
    if isinstance(records, Unreadable):
        raise ControlError(records.reason)
    producer = open_producer(settings)
    try:
        futures = [producer.send(**record) for record in records]
        acknowledged = [future.get(timeout=CONFIRM_S_MAX) for future in futures]
    except KafkaError as error:
        raise SendError(
            f"The broker at {settings.broker} did not take the order everywhere ({error}): give it again with "
            f"--control-id {event.control_id}; a partition that has it already ignores it."
        ) from error
    finally:
        producer.close(timeout=CONFIRM_S_MAX)
    return {one.partition: Position(partition=one.partition, offset=one.offset) for one in acknowledged}


class _Journal:
    """The journal from just before the order on. Opened before the order is sent, so that nothing is missed."""

    def __init__(self, settings: Settings, *, watched: bool) -> None:
        self._settings = settings
        self._consumer: Any = open_consumer(settings) if watched else None
        #: First offset and end of the journal before the order was sent.
        self._first: dict[TopicPartition, int] = {}
        self._ends: dict[TopicPartition, int] = {}

    def __enter__(self) -> Self:
        if self._consumer is not None:
            topic = self._settings.topic_prefix + DECISION_AUDIT
            partitions = [TopicPartition(topic, number) for number in range(self._settings.partitions)]
            self._first = self._consumer.beginning_offsets(partitions)
            self._ends = self._consumer.end_offsets(partitions)
        return self

    def __exit__(self, *_: object) -> None:
        if self._consumer is not None:
            self._consumer.close()

    def follow(self, event: FleetControl, positions: Mapping[int, Position], wait_s: float) -> dict[int, Position]:
        """Read until every partition has handled the order, or until the time is up."""
        watched = [where for where in self._ends if where.partition in positions]
        traces = {
            where.partition: Trace(event, positions[where.partition], journal_end=self._ends[where])
            for where in watched
        }
        self._consumer.assign(watched)
        for where in watched:
            self._consumer.seek(where, max(self._first[where], self._ends[where] - LOOKBACK_RECORDS))
        deadline_s = time.monotonic() + wait_s
        while any(one.position.status == "sent" for one in traces.values()) and time.monotonic() < deadline_s:
            for where, records in self._consumer.poll(timeout_ms=POLL_MS).items():
                trace = traces[where.partition]
                for record in records:
                    trace.read(record.offset, record.value or b"")
                if trace.stopped is not None:
                    raise JournalError(
                        f"The order {event.control_id} was sent, but what became of it cannot be read: {trace.stopped}"
                    ) from trace.stopped
        return {number: one.position for number, one in traces.items()}


class Trace:
    """Looks for an order in the journal of one partition, read from `LOOKBACK_RECORDS` before `journal_end` on."""

    def __init__(self, event: FleetControl, position: Position, *, journal_end: int) -> None:
        """`journal_end` is the journal's end before the order was sent: no step before it handled the order."""
        self.position = position
        self._event = event
        self._where = (CONTROL, position.offset)
        self._reader = HoldingReader(JournalReader.joining(position.partition, decode_step, offset=journal_end))

    @property
    def stopped(self) -> ReadingError | None:
        """A missing or damaged step, which may be the one that handled the order; None: all was read."""
        return self._reader.stopped if self.position.status == "sent" else None

    def read(self, offset: int, value: bytes) -> None:
        """Read the next record of the journal, until the order is found."""
        if self.position.status == "sent":
            for step in self._reader.take(offset, value):
                self._look_at(step)

    def _look_at(self, step: Step) -> None:
        if self._where not in ((one.topic, one.offset) for one in step.inputs):
            return
        reason = next((one.reason for one in step.rejected if (one.topic, one.offset) == self._where), None)
        status: Status = "refused"
        if reason is None:
            ours = any(one.control_id == self._event.control_id for one in step.controls)
            status = "taken" if ours else "known"
        note = _note(self._event, step) if status == "taken" else None
        self.position = replace(self.position, status=status, seq=step.seq, reason=reason, note=note)


def _note(event: FleetControl, step: Step) -> str | None:
    """Return what is to be known of a taken order: it had no effect yet, or why it has none."""
    if isinstance(event, SlotRetired):
        touched = {(one.pool, one.slot_id) for one in step.slots}.union(
            (one.pool, one.slot_id) for one in step.slots_gone
        )
        if (event.pool, event.slot_id) not in touched:
            return f"pool {event.pool} has no slot {event.slot_id}: nothing was retired."
    if isinstance(event, TaskCancelled):
        for one in step.stopped:
            if (one.pool, one.task_id, one.reason_code) == (event.pool, event.task_id, "cancelled"):
                return f"task {one.task_id} runs on {one.slot_id}, which is asked to stop: it ends with that slot."
    unknown = ((pool, task_id) for pool, task_id, _ in step.cancels)
    if isinstance(event, TaskCancelled) and (event.pool, event.task_id) in unknown:
        return f"pool {event.pool} has no task {event.task_id} yet: it is cancelled if it comes within a day."
    return None
