"""What the steps of a followed installation brought lately, for who listens, and for who comes back to hear the rest.

It is bounded. An event has a place: the run of this feed, the partition, the step, and its number in the step. Who
names the last place it knows is given what came after it, or learns that some of that is not known here any more.
"""

from __future__ import annotations

import re
import uuid
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from schemas.decision import Decision, Step
from schemas.events import TaskFinished, WorkCancelled
from streams.partition.outputs import tasks_finished, work_cancelled

#: Events that are remembered; the latest step is, whatever it holds.
EVENTS_MAX: Final = 10_000
_PLACE: Final = re.compile(r"(?P<run>[0-9a-f]{8})\.(?P<partition>\d{1,4})\.(?P<seq>\d{1,18})\.(?P<number>\d{1,9})")

#: A decision as it was made, a task that is over, or work that is to stop.
What = Decision | TaskFinished | WorkCancelled
#: Called with each step; None: some steps in between are not known.
Listener = Callable[[Step | None], None]


class Happened(Struct, frozen=True):
    """One event, in the step that brought it."""

    step: Step
    #: Counts the events of the step.
    number: int
    what: What


class Feed:
    """Remembers the latest steps, and hands each on to who listens."""

    def __init__(self) -> None:
        self._run = _new_run()
        self._recent: deque[Step] = deque()
        self._events = 0
        self._listeners: set[Listener] = set()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return len(self._listeners)

    def listen(self, listener: Listener) -> None:
        """Have a function called with each step from now on; it must not wait."""
        self._listeners.add(listener)

    def leave(self, listener: Listener) -> None:
        """End `listen`."""
        self._listeners.discard(listener)

    def put(self, step: Step) -> None:
        """Take a step: of its rows only those of its events are needed."""
        self._recent.append(step)
        self._events += _size(step)
        while self._events > EVENTS_MAX and len(self._recent) > 1:
            self._events -= _size(self._recent.popleft())
        for listener in tuple(self._listeners):
            listener(step)

    def break_off(self) -> None:
        """Begin a new run: the steps that come next do not follow those before."""
        self._run, self._events = _new_run(), 0
        self._recent.clear()
        for listener in tuple(self._listeners):
            listener(None)

    def place(self, happened: Happened) -> str:
        """Return the place of an event, as `since` takes it."""
        return f"{self._run}.{happened.step.partition}.{happened.step.seq}.{happened.number}"

    def end(self) -> str | None:
        """Return the place of the latest event; None: there was none in this run."""
        if not self._recent:
            return None
        last = self._recent[-1]
        return f"{self._run}.{last.partition}.{last.seq}.{_size(last)}"

    def since(self, place: str, partition: int | None) -> list[Happened] | None:
        """Return what came after a place, in order; None: not all of it is known.

        Within one partition steps have an order of their own, so a place of another run, or of another process, serves
        as well where only `partition` matters.
        """
        match = _PLACE.fullmatch(place)
        if match is None:
            return None
        where, seq, number = int(match["partition"]), int(match["seq"]), int(match["number"])
        steps = list(self._recent)
        if match["run"] == self._run:
            found = next((at for at, one in enumerate(steps) if (one.partition, one.seq) == (where, seq)), None)
            if found is None:
                return None
            steps = steps[found:]
        else:
            steps = [one for one in steps if one.partition == partition == where]
            if not steps or steps[0].seq > seq + 1:
                return None
        return [
            one
            for step in steps
            if step.partition != where or step.seq >= seq
            for one in events_of(step)
            if (step.partition, step.seq) != (where, seq) or one.number > number
        ]


def events_of(step: Step) -> Iterator[Happened]:
    """Give the events of a step, in the order of the output topics."""
    events: list[What] = [
        *map(work_cancelled, step.stopped),
        *step.decisions,
        *(event for _, event in tasks_finished(step)),
    ]
    for number, what in enumerate(events, start=1):
        yield Happened(step, number, what)


def _size(step: Step) -> int:
    return len(step.stopped) + len(step.decisions) + len(step.ended)


def _new_run() -> str:
    return uuid.uuid4().hex[:8]
