"""Every command of slotwise, found by walking the command line, and run in this process without any server.

What a command would connect to is unplugged: topics count as there, what is sent counts as confirmed, and every other
connection is refused at once. So a command goes as far as it can before it would read an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import logging
import os
import socket
import sys
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from enum import EnumMeta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import aiokafka
import kafka.errors
import psycopg
import pytest
import typer
from msgspec import Struct

from streams import cli
from streams.errors import FAILED, MISTAKE, UNREACHABLE
from streams.local.up import UpError
from streams.operate import dead_letters, known_names, orders, read_partitions, recommend, send
from streams.sample.work import tasks
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.simulate.world import NeverServed
from streams.topics import topics
from streams.views.overview import RecoveredPartition

#: With these a command may end; 0: it is done.
CODES: Final = frozenset({0, FAILED, MISTAKE, UNREACHABLE})
#: Partitions that are read at most, and tasks of the sample that are made at most: each costs time.
PARTITIONS_MAX: Final = 2
TASKS_MAX: Final = 20


class Parameter(Struct, frozen=True):
    """One thing that a command may be given."""

    name: str
    #: As `--policy`; None: it is given by its place.
    option: str | None
    required: bool
    is_flag: bool
    #: The words that it may be; empty: any.
    choices: tuple[str, ...]
    #: The type of its value.
    kind: type


class Ended(Struct, frozen=True):
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@functools.cache
def tree() -> Any:
    """The command line as it is for people."""
    return typer.main.get_command(cli.app)


@functools.cache
def commands() -> dict[tuple[str, ...], tuple[Parameter, ...]]:
    """Every command that does something: its words, and what it may be given."""
    return dict(_walk(tree(), ()))


def _walk(command: Any, words: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], tuple[Parameter, ...]]]:
    if hasattr(command, "commands"):
        if words and command.invoke_without_command:
            yield words, tuple(map(_parameter, command.params))
        for name, inner in command.commands.items():
            yield from _walk(inner, (*words, name))
    else:
        yield words, tuple(map(_parameter, command.params))


def _parameter(one: Any) -> Parameter:
    kind: Any = one.type_descriptor.annotation
    return Parameter(
        name=one.name,
        option=one.opts[0] if one.opts[0].startswith("-") else None,
        required=one.required,
        is_flag=getattr(one, "is_flag", False),
        choices=tuple(map(str, kind.__members__)) if isinstance(kind, EnumMeta) else (),
        kind=kind,
    )


def run(*words: str, stdin: bytes = b"", env: Mapping[str, str] | None = None) -> Ended:
    """Run a command to its end, with these settings only. Its output is read as a UTF-8 terminal would."""
    others = {name: value for name, value in os.environ.items() if not name.startswith(("SLOTWISE_", "PG"))}
    streams = [io.TextIOWrapper(io.BytesIO(content), encoding="utf-8") for content in (stdin, b"", b"")]
    with pytest.MonkeyPatch.context() as patch:
        for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
            patch.setattr(sys, name, stream)
        patch.setattr(os, "environ", {**others, "COLUMNS": "200", **(env or {})})
        root = logging.getLogger()
        before = root.handlers[:], root.level
        code: Any = 0
        try:
            cli.main(list(words))
        except SystemExit as end:
            code = end.code
        finally:
            root.handlers[:], root.level = before
        for stream in streams[1:]:
            stream.flush()
    out, err = (stream.buffer.getvalue().decode() for stream in streams[1:])
    return Ended(code if isinstance(code, int) else FAILED, out, err)


class _Broker:
    """A broker with a few dead letters, all odd, that confirms everything."""

    async def bounds(self, topic: str, partition: int) -> tuple[int, int]:
        """Only one partition has any."""
        return 0, len(_DEAD_LETTERS) if (topic.endswith("task.pending.dlq"), partition) == (True, 0) else 0

    async def read(self, _topic: str, _partition: int, start: int, end: int) -> AsyncIterator[list[Any]]:
        """Give them at once."""
        yield [
            SimpleNamespace(partition=0, offset=at, timestamp=at * 10**12, key=key, value=value, headers=headers)
            for at, (key, value, headers) in enumerate(_DEAD_LETTERS)
            if start <= at < end
        ]

    async def send(self, *_: Any, **__: Any) -> Any:
        """Confirm a record."""
        return asyncio.sleep(0)


_DEAD_LETTERS: Final[list[tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]]] = [
    (b"main", b'{"task_id":"t-1","pool":"main","at":"2026-11-21T10:00:00Z"}', [("__streams.errors.message", b"No.")]),
    (b"main", b'{"task":{"task_id":"\\u001b[31m","pool":"main","at":"x"},"story":[]}', [("slotwise.attempt", b"5")]),
    (b"\xff\x1b", b"\x1b]0;\xe2\x80\xae\xff", [("\u202e", b"\x9b"), ("__streams.errors.offset", b"9" * 99)]),
    (None, None, []),
    (b"main", b'{"mark":"dropped","offsets":[3],"at":"\\u001b","by":"\\u202e"}', [("slotwise.mark", b"dropped")]),
    (b"main", b'{"mark":"dropped","offsets":[3],"at":"now","by":"me","because":"why"}', [("slotwise.mark", b"")]),
]


class _Producer:
    """A broker that confirms everything."""

    def send(self, *, partition: int = 0, **_record: Any) -> Any:
        """Confirm a record."""
        return SimpleNamespace(get=lambda timeout: SimpleNamespace(partition=partition, offset=0))  # noqa: ARG005

    def close(self, timeout: float) -> None:
        """Do nothing."""


async def _web(settings: Settings, *_: Any) -> None:
    file_rulebook(settings)


@contextlib.contextmanager
def _nothing_played(*_: Any) -> Iterator[Any]:
    def play(*_: Any) -> Any:
        raise NeverServed("Nothing is played here.")

    yield play


@contextlib.contextmanager
def unplugged(directory: Path) -> Iterator[None]:
    """Run what is inside in that directory, without servers."""

    def refuse(*_: Any, **__: Any) -> Any:
        raise ConnectionRefusedError(111, "Connection refused")

    def no_broker(*_: Any, **__: Any) -> Any:
        raise kafka.errors.KafkaTimeoutError("no broker")

    async def no_broker_later(*_: Any, **__: Any) -> Any:
        raise aiokafka.errors.KafkaConnectionError

    def no_database(*_: Any, **__: Any) -> Any:
        raise psycopg.OperationalError("connection refused")

    async def no_database_later(*_: Any, **__: Any) -> Any:
        no_database()

    def no_start(*_: Any, **__: Any) -> Any:
        raise UpError("Nothing is started here.")

    async def follow(follower: Any, _stop: Any) -> None:
        await follower._store.positions()

    def worker(settings: Settings) -> int:
        file_rulebook(settings)
        return 0

    async def read(settings: Settings, partitions: Iterable[int]) -> dict[int, RecoveredPartition]:
        router = recommend.offline_router(settings)[0]
        return {n: RecoveredPartition(router=router, decided_by=None) for n in list(partitions)[:PARTITIONS_MAX]}

    @contextlib.asynccontextmanager
    async def broker(_settings: Settings) -> AsyncIterator[_Broker]:
        yield _Broker()

    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(directory):
        whole = tree()
        patch.setattr(typer.main, "get_command", lambda _app: whole)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket, "create_connection", refuse)
        for where in ("streams.topics", "streams.operate.recommend"):
            patch.setattr(f"{where}.check_topics", lambda settings, *_, **__: topics(settings))
        patch.setattr("streams.topics.create_topics", lambda settings: [topic.name for topic in topics(settings)])
        patch.setattr("streams.topics.KafkaAdminClient", no_broker)
        patch.setattr("streams.kafka.blocking.KafkaProducer", no_broker)
        patch.setattr("streams.kafka.blocking.KafkaConsumer", no_broker)
        patch.setattr(known_names, "ARRIVE_S_MAX", 0.0)
        for module in (send, orders):
            patch.setattr(module, "open_producer", lambda _settings: _Producer())
        for module in (read_partitions, orders, recommend, known_names):
            patch.setattr(module, "read_partitions", read)
        patch.setattr("streams.kafka.client.Broker.start", no_broker_later)
        patch.setattr(dead_letters, "Broker", broker)
        patch.setattr("streams.sinks.follow.JournalFollower.run", follow)
        patch.setattr("streams.sample.play._clients", no_broker)
        patch.setattr("streams.sample.play.tasks", lambda run, count, pool: tasks(run, min(count, TASKS_MAX), pool))
        patch.setattr("streams.sample.work.tasks", lambda run, count: tasks(run, min(count, TASKS_MAX)))
        patch.setattr("streams.operate.simulation.runner", _nothing_played)
        patch.setattr("streams.worker.run", worker)
        patch.setattr("streams.web.run.run", _web)
        patch.setattr("streams.local.up.Up.start", no_start)
        patch.setattr(psycopg, "connect", no_database)
        patch.setattr(psycopg.AsyncConnection, "connect", no_database_later)
        yield
