"""The agents hand over and nothing else: inputs to their partition's worker, the journal to the tables."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from streams.agents import add_agents
from streams.kafka.transport import Batches
from streams.settings import Settings
from streams.tables import FLUSH_S
from streams.topics import names

KNOWN = names(Settings(topic_prefix="x."))


class StubApp:
    """Keeps what is put on it."""

    def __init__(self) -> None:
        self.topics: list[tuple[tuple[str, ...], Any]] = []
        self.agents: dict[str, tuple[Any, Callable[[Any], Any]]] = {}
        self.timers: list[tuple[float, Callable[[], Any]]] = []

    def topic(self, *topics: str, schema: Any) -> object:
        """Name topics."""
        self.topics.append((topics, schema))
        return topics

    def agent(self, topic: object, *, name: str) -> Callable[[Any], Any]:
        """Keep an agent with its topics."""

        def decorate(function: Any) -> Any:
            self.agents[name] = (topic, function)
            return function

        return decorate

    def timer(self, *, interval: float) -> Callable[[Any], Any]:
        """Keep a timer."""

        def decorate(function: Any) -> Any:
            self.timers.append((interval, function))
            return function

        return decorate


class Stream:
    """Events of a stream; `noack` says that the agent does not ack them by itself."""

    def __init__(self, *events: Any) -> None:
        self._events = events
        self.acks_by_itself = True

    def noack(self) -> Stream:
        """Leave the acks to the holder of the event."""
        self.acks_by_itself = False
        return self

    async def events(self) -> AsyncIterator[Any]:
        """Give them."""
        for one in self._events:
            yield one


class Assignment:
    """Keeps deliveries."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, ...]] = []

    def take(self, *delivery: Any) -> None:
        """Keep one."""
        self.taken.append(delivery)


class Tables:
    """Keeps what is gathered, and counts the flushes."""

    def __init__(self) -> None:
        self.gathered: list[tuple[int, Sequence[Any]]] = []
        self.flushes = 0

    async def gather(self, partition: int, records: Sequence[Any]) -> None:
        """Keep them."""
        self.gathered.append((partition, records))

    async def flush(self) -> None:
        """Count."""
        self.flushes += 1


def made() -> tuple[StubApp, Assignment, Tables]:
    """Agents on a stub app."""
    app, assignment, tables = StubApp(), Assignment(), Tables()
    add_agents(app, KNOWN, assignment, tables)  # type: ignore[arg-type]
    return app, assignment, tables


def event(topic: str, partition: int, value: list[str], generation: int = 7) -> Any:
    """One event as Faust gives it."""
    message = SimpleNamespace(topic=topic, partition=partition, generation_id=generation)
    return SimpleNamespace(message=message, value=value, ack=object())


async def test_inputs_go_to_the_worker_of_their_partition_and_are_acked_by_it() -> None:
    """With generation, topic and the ack, which the agent leaves to the worker."""
    app, assignment, _ = made()
    topics, router = app.agents["router"]
    assert topics == ("x.task.pending", "x.slot.freed", "x.fleet.control")
    first, second = event("x.task.pending", 1, ["a", "b"]), event("x.fleet.control", 0, ["c"], generation=8)
    stream = Stream(first, second)
    await router(stream)
    assert not stream.acks_by_itself
    assert assignment.taken == [(7, 1, 0, ["a", "b"], first.ack), (8, 0, 2, ["c"], second.ack)]


async def test_the_journal_goes_to_the_tables() -> None:
    """By partition; Faust acks it, since the tables keep their own offset."""
    app, _, tables = made()
    topics, projections = app.agents["projections"]
    assert topics == ("x.decision.audit",)
    stream = Stream(event("x.decision.audit", 1, ["s-0"]), event("x.decision.audit", 0, ["s-1", "s-2"]))
    await projections(stream)
    assert stream.acks_by_itself
    assert tables.gathered == [(1, ["s-0"]), (0, ["s-1", "s-2"])]


async def test_the_tables_are_flushed_every_few_seconds() -> None:
    """A page that is asked flushes them as well."""
    app, _, tables = made()
    ((interval, flush),) = app.timers
    await flush()
    assert (interval, tables.flushes) == (FLUSH_S, 1)


def test_every_topic_is_read_in_batches() -> None:
    """Record by record an agent would be the bottleneck."""
    app, _, _ = made()
    assert [type(schema) for _, schema in app.topics] == [Batches, Batches]
