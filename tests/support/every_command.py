"""Every command of slotwise, found by walking the command line, and run in this process without any server.

What a command would connect to is unplugged: topics count as there, what is sent counts as confirmed, and every other
connection is refused at once. So a command goes as far as it can before it would read an answer.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
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
from streams.operate import orders, read_partitions, recommend, send
from streams.sample.work import tasks
from streams.settings import Settings
from streams.shipped import file_rulebook
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


class _Producer:
    """A broker that confirms everything."""

    def send(self, *, partition: int = 0, **_record: Any) -> Any:
        """Confirm a record."""
        return SimpleNamespace(get=lambda timeout: SimpleNamespace(partition=partition, offset=0))  # noqa: ARG005

    def close(self, timeout: float) -> None:
        """Do nothing."""


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

    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(directory):
        whole = tree()
        patch.setattr(typer.main, "get_command", lambda _app: whole)
        patch.setattr(socket, "getaddrinfo", refuse)
        patch.setattr(socket, "create_connection", refuse)
        for where in ("streams.topics", "streams.operate.recommend"):
            patch.setattr(f"{where}.check_topics", topics)
        patch.setattr("streams.topics.create_topics", lambda settings: [topic.name for topic in topics(settings)])
        patch.setattr("streams.topics.KafkaAdminClient", no_broker)
        patch.setattr("streams.kafka.blocking.KafkaProducer", no_broker)
        patch.setattr("streams.kafka.blocking.KafkaConsumer", no_broker)
        for module in (send, orders):
            patch.setattr(module, "open_producer", lambda _settings: _Producer())
        for module in (read_partitions, orders, recommend):
            patch.setattr(module, "read_partitions", read)
        patch.setattr("streams.kafka.client.Broker.start", no_broker_later)
        patch.setattr("streams.sinks.follow.JournalFollower.run", follow)
        patch.setattr("streams.sample.play._clients", no_broker)
        patch.setattr("streams.sample.play.tasks", lambda run, count: tasks(run, min(count, TASKS_MAX)))
        patch.setattr("streams.worker.run", worker)
        patch.setattr("streams.local.up.Up.start", no_start)
        patch.setattr(psycopg, "connect", no_database)
        patch.setattr(psycopg.AsyncConnection, "connect", no_database_later)
        yield
