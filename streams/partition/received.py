"""From delivered records to inputs of the router: read, checked to be of this partition, and given their time.

Reading never raises: what cannot be read becomes an `Unreadable` input, which the router refuses. What can be read and
is of another partition becomes a `Misplaced` one, which is forwarded there.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from schemas.codec import read_event
from schemas.decision import Advice
from schemas.event_id import EventId, event_id_of
from schemas.events import PolicyActivated
from schemas.forwarding import HEADERS_BYTES_MAX, forwarded_from, headers_bytes
from schemas.input import Content, Input, Misplaced, Unreadable
from schemas.record import Headers
from schemas.refusals import quote
from schemas.trace import trace_of
from schemas.vocabulary import FLEET_CONTROL, INPUT_TOPICS, Millis
from streams import metrics
from streams.core.router import accept_time
from streams.partition.ports import Raw

_log = logging.getLogger(__name__)

#: Keys whose partition is remembered.
KEYS_MAX: Final = 100_000


class Received(NamedTuple):
    """A record that comes next in its topic, read."""

    topic: int
    raw: Raw
    event: Content
    traceparent: str | None
    tracestate: str | None
    #: What plug-ins advised, once they were asked.
    advice: Advice | None = None
    #: Of a slot's report.
    event_id: EventId | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Its topic and offset."""
        return self.topic, self.raw.offset


class RecordReader:
    """Reads the records of one partition; `home` gives the partition that a key belongs to."""

    def __init__(self, partition: int, home: Callable[[bytes], int]) -> None:
        self._partition = partition
        self._home = home
        self._homes: dict[bytes, bool] = {}

    def read(self, topic: int, raw: Raw) -> Received:
        """Read a record; one that cannot be read is `Unreadable`, one that belongs to another partition `Misplaced`."""
        name = INPUT_TOPICS[topic]
        try:
            headers = raw.headers or ()
            event: Content
            if not raw.key and name != FLEET_CONTROL:
                event = Unreadable("The record has no key: send it with its pool as the key.")
            else:
                event = read_event(name, raw.key, raw.value, headers)
                # What cannot be read is refused here, where its sender put it. An empty key is none.
                if raw.key and not isinstance(event, Unreadable) and not self._is_home(raw.key):
                    event = self._misplaced(raw.key, headers)
            traceparent, tracestate = trace_of(headers)
            event_id = event_id_of(name, headers)
        except Exception as error:  # noqa: BLE001 - it promises not to raise; a bug there must not stop the stream
            _log.exception("%s[%d]@%d: reading failed", name, self._partition, raw.offset)
            metrics.INVARIANT_VIOLATIONS.labels("reader_raised").inc()
            event, traceparent, tracestate = Unreadable(f"Reading failed: {error!r}."), None, None
            event_id = None
        return Received(topic, raw, event, traceparent, tracestate, event_id=event_id)

    def _misplaced(self, key: bytes, headers: Headers) -> Misplaced | Unreadable:
        home = self._home(key)
        what = f"The record is on partition {self._partition}, but its key belongs to partition {home}"
        origin, size = forwarded_from(headers), headers_bytes(headers)
        if origin is not None:
            return Unreadable(
                f"{what}, and it was forwarded once already, from {quote(origin)}: the workers differ in the number of "
                "partitions, or its sender set the header slotwise.forwarded."
            )
        if size > HEADERS_BYTES_MAX:
            return Unreadable(
                f"{what}, and with {size} bytes of headers it is not forwarded ({HEADERS_BYTES_MAX} are): send it with "
                "the partitioner murmur2."
            )
        return Misplaced(home)

    def _is_home(self, key: bytes) -> bool:
        known = self._homes.get(key)
        if known is None:
            if len(self._homes) >= KEYS_MAX:
                self._homes.clear()
            known = self._homes[key] = self._home(key) == self._partition
        return known


def cut_at_activations(received: Sequence[Received]) -> list[list[Received]]:
    """Cut into as few steps as possible, in order, so that each activation of a policy is alone in its own.

    What comes before it is decided by the old policy; the plug-ins and rules of the new one see what comes after it.
    """
    parts: list[list[Received]] = []
    alone = True
    for one in received:
        activates = isinstance(one.event, PolicyActivated)
        if alone or activates:
            parts.append([])
        parts[-1].append(one)
        alone = activates
    return parts


def with_times(received: Sequence[Received], *, now_ms: Millis, clock_ms: Millis, ahead_ms_max: int) -> list[Input]:
    """Give each input the time of its record, not before `now_ms` or the one before, nor far ahead of the clock."""
    inputs = []
    for one in received:
        stamp_ms = one.raw.timestamp
        # A record without a timestamp gets the clock's time.
        now_ms = accept_time(clock_ms if stamp_ms < 0 else stamp_ms, now_ms, clock_ms, ahead_ms_max)
        inputs.append(Input(one.topic, one.raw.offset, now_ms, *one[2:]))
    return inputs
