"""What was delivered and is not journaled: each input once, in the order of its topic, without gaps. Pure.

Deliveries may repeat records, leave some out and overlap. The inbox hands out records that come next, drops those that
were handled, and names a gap, which the worker fetches and puts back in its place. A topic whose inbox is full pauses,
and goes on when half of it is handled.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from schemas.vocabulary import INPUT_TOPICS
from streams.partition.ports import Raw

#: With so many records of one topic in the inbox its fetching pauses, and goes on at half of it.
INBOX_RECORDS_MAX: Final = 20_000
#: A gap is filled in pieces of this many records.
REFETCH_RECORDS_MAX: Final = 10_000
#: After so many checks in a row without an arrival, missing inputs are fetched.
QUIET_CHECKS: Final = 2


class Gap(NamedTuple):
    """Offsets of a topic from `start` up to, not including, `end`, whose records were not delivered."""

    topic: int
    start: int
    end: int


class Taken(NamedTuple):
    """What `take` found."""

    #: Topic and record, in the order in which they are to be handled.
    records: list[tuple[int, Raw]]
    #: The `done` of each delivery that was taken to its end.
    finished: list[Callable[[], Any]]
    #: Records dropped because they were handled before, by topic.
    duplicates: Counter[int]
    #: What must be fetched before more can be taken.
    gap: Gap | None


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


class Inbox:
    """The inbox of one partition; `pressure(topic, full)` is called when a topic becomes full, and when it has room."""

    def __init__(self, pressure: Callable[[int, bool], None]) -> None:
        self._pressure = pressure
        self._deliveries: deque[_Delivery] = deque()
        self._waiting = [0] * len(INPUT_TOPICS)
        self._full = [False] * len(INPUT_TOPICS)
        #: By topic: offset of the last record taken or handled.
        self._last = [-1] * len(INPUT_TOPICS)
        #: By topic: every existing offset below this one was put into the inbox, so that a gap below it is none.
        self._complete_to = [0] * len(INPUT_TOPICS)
        self._arrivals = [0] * len(INPUT_TOPICS)
        #: By topic: arrivals at the last check, and checks in a row without another one.
        self._quiet = [(0, 0)] * len(INPUT_TOPICS)
        #: By topic: the end up to which records exist that were not delivered.
        self._missing: dict[int, int] = {}

    @property
    def idle(self) -> bool:
        """Whether there is nothing to take and nothing to fetch."""
        return not self._deliveries and not self._missing

    @property
    def records(self) -> int:
        """Delivered records that were not taken."""
        return sum(self._waiting)

    @property
    def oldest_s(self) -> float | None:
        """When the first delivery came that is not taken to its end."""
        return self._deliveries[0].came_s if self._deliveries else None

    def waiting(self, topic: int) -> tuple[int, int | None]:
        """Return the delivered records of a topic that were not taken, and the time of the oldest; None: not known."""
        first = next((one for one in self._deliveries if one.topic == topic), None)
        oldest_ms = -1 if first is None else first.records[first.next].timestamp
        return self._waiting[topic], oldest_ms if oldest_ms >= 0 else None

    def start(self, positions: Sequence[int]) -> None:
        """Begin behind these offsets, one a topic: the last inputs that are journaled."""
        self._last = list(positions)
        self._complete_to = [position + 1 for position in positions]

    def clear(self) -> None:
        """Forget everything: it will be delivered again."""
        self._deliveries.clear()
        self._missing.clear()
        for topic, count in enumerate(list(self._waiting)):
            self._release(topic, count)

    def put(self, topic: int, records: Sequence[Raw], came_s: float, done: Callable[[], Any] | None) -> None:
        """Take a delivery of one topic, in offset order."""
        self._deliveries.append(_Delivery(topic, records, came_s, done, counted=True))
        self._arrivals[topic] += 1
        self._waiting[topic] += len(records)
        if self._waiting[topic] > INBOX_RECORDS_MAX and not self._full[topic]:
            self._full[topic] = True
            self._pressure(topic, True)  # noqa: FBT003 - full

    def put_back(self, gap: Gap, records: Sequence[Raw], came_s: float) -> None:
        """Put the records that exist of a gap before everything else; where there are none, there is no gap.

        As many as `REFETCH_RECORDS_MAX` are a part of it: what remains is found as another gap.
        """
        if records:
            self._deliveries.appendleft(_Delivery(gap.topic, records, came_s, None, counted=False))
        complete_to = gap.end if len(records) < REFETCH_RECORDS_MAX else records[-1].offset + 1
        self._complete_to[gap.topic] = max(self._complete_to[gap.topic], complete_to)

    def check(self, topic: int, end: int) -> bool:
        """Compare with the topic's end; True: inputs are missing that do not come by themselves, and are to be fetched.

        They are missing when the end is beyond what came, and nothing came between this check and the last.
        """
        arrivals, quiet = self._quiet[topic]
        complete = end <= max(self._last[topic] + 1, self._complete_to[topic])
        if complete or self._arrivals[topic] != arrivals or self._waiting[topic]:
            self._quiet[topic] = (self._arrivals[topic], 0)
            return False
        self._quiet[topic] = (arrivals, quiet + 1)
        if quiet + 1 < QUIET_CHECKS:
            return False
        self._missing[topic] = end
        return True

    def missing(self) -> Iterator[Gap]:
        """Give the gaps that `check` found, each once."""
        while self._missing:
            topic, end = self._missing.popitem()
            start = max(self._last[topic] + 1, self._complete_to[topic])
            if start < end:
                yield Gap(topic, start, end)

    def take(self, positions: Sequence[int], limit: int) -> Taken:
        """Take up to `limit` records that come next, up to the first gap; `positions` is what is journaled now."""
        taken = Taken([], [], Counter(), None)
        for topic, position in enumerate(positions):
            # Another worker's steps may have handled more than was taken here.
            self._last[topic] = max(self._last[topic], position)
        while self._deliveries and len(taken.records) < limit:
            gap = self._take_from(self._deliveries[0], limit, taken)
            if gap is not None:
                return taken._replace(gap=gap)
        return taken

    def _take_from(self, delivery: _Delivery, limit: int, taken: Taken) -> Gap | None:
        topic, records, start = delivery.topic, delivery.records, delivery.next
        last, complete_to = self._last[topic], self._complete_to[topic]
        index, gap, dropped = start, None, 0
        while index < len(records) and len(taken.records) < limit:
            raw = records[index]
            if raw.offset <= last:
                dropped += 1
            elif raw.offset > last + 1 and raw.offset > complete_to:
                gap = Gap(topic, last + 1, raw.offset)
                break
            else:
                taken.records.append((topic, raw))
                last = raw.offset
            index += 1
        self._last[topic] = last
        delivery.next = index
        if dropped:
            taken.duplicates[topic] += dropped
        if delivery.counted:
            self._release(topic, index - start)
        if index == len(records):
            self._deliveries.popleft()
            if delivery.done is not None:
                taken.finished.append(delivery.done)
        return gap

    def _release(self, topic: int, count: int) -> None:
        self._waiting[topic] -= count
        if self._full[topic] and self._waiting[topic] <= INBOX_RECORDS_MAX // 2:
            self._full[topic] = False
            self._pressure(topic, False)  # noqa: FBT003 - room again
