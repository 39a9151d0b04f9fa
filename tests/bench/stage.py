"""Where a measurement takes place: a broker of its own, fresh topics for each side, and each side as a process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import uuid
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from aiokafka import AIOKafkaProducer
from msgspec.structs import replace

from streams.clock import SystemClock
from streams.local.kafka import ApacheKafka
from streams.local.own_parts import environment as in_variables
from streams.local.postgres import EmbeddedPostgres
from streams.local.process import Part, plain_environment
from streams.local.tansu import EmbeddedBroker
from streams.settings import ENV_PREFIX, Settings
from streams.topics import create_topics, names

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from tests.bench.workload import Message

BrokerKind = Literal["tansu", "kafka"]

ROOT: Final = Path(__file__).parents[2]
PARTITIONS: Final = 4
#: A side that is held still while its inputs are written must stay in its group.
SESSION_S: Final = 20.0


class BenchError(Exception):
    """A measurement could not be made; the message says why."""


class Stage:
    """A broker, and a directory for logs and data. A context: what was started is ended on the way out."""

    def __init__(self, kind: BrokerKind) -> None:
        self.kind = kind
        self._stack = ExitStack()
        self._broker: Part | None = None
        self.directory = Path()

    def __enter__(self) -> Self:
        """Make the directory."""
        self.directory = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="slotwise-bench-")))
        # PostgreSQL runs as a user of its own where we are root.
        self.directory.chmod(0o711)
        return self

    def __exit__(self, *_: object) -> None:
        """End what runs."""
        self._stack.close()

    def clear(self) -> None:
        """Begin with a broker that holds nothing, where that is cheap: both sides of a pair then share it."""
        if self._broker is None:
            log_file = self.directory / "broker.log"
            self._broker = (
                EmbeddedBroker(log_file=log_file)
                if self.kind == "tansu"
                else ApacheKafka(self.directory / "kafka", log_file=log_file)
            )
            self._stack.enter_context(self._broker)
        elif not self._broker.durable:
            self._broker.restart()

    def settings(self, side: str) -> Settings:
        """Give settings for one run of one side: an installation of its own, its topics made."""
        if self._broker is None:
            self.clear()
        assert self._broker is not None
        name = f"{side}-{uuid.uuid4().hex[:8]}"
        settings = Settings(
            broker=self._broker.address,
            group=name,
            topic_prefix=f"{name}.",
            partitions=PARTITIONS,
            data_dir=str(self.directory / name),
            session_timeout_s=SESSION_S,
            log_level="warning",
        )
        create_topics(settings)
        return settings

    def cpu_s(self) -> float:
        """Processor time that the broker has used so far; 0 where the system does not tell."""
        return 0.0 if self._broker is None else _cpu_s(self._broker.pid)

    def postgres(self) -> EmbeddedPostgres:
        """Start a PostgreSQL that ends with the stage."""
        return self._stack.enter_context(EmbeddedPostgres(self.directory / "postgres"))


class Side(Part):
    """One program that is measured."""

    name = "The measured program"
    durable = False
    _orphan_signal = signal.SIGKILL
    # What it recovers first may be large, and the machine busy.
    _start_s_max = 300
    _stop_s_max = 60

    def __init__(self, settings: Settings, directory: Path, program: str, *arguments: str, pages: bool = False) -> None:
        super().__init__(log_file=directory / f"{settings.group}.log")
        self.settings = replace(settings, web_port=self.port, http_port=self.port) if pages else settings
        self._command = [sys.executable, "-m", f"tests.bench.sides.{program}", *arguments]
        self._pages = pages

    def hold(self) -> None:
        """Let it stand still."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it run again."""
        self._signal(signal.SIGCONT)

    def profile(self) -> None:
        """Tell it to begin with its profile."""
        self._signal(signal.SIGPROF)

    def cpu_s(self) -> float:
        """Processor time it has used so far; 0 where the system does not tell."""
        return _cpu_s(self.pid)

    def require_alive(self) -> None:
        """Raise when it has ended.

        Raises:
            BenchError: with the end of its log.
        """
        if not self.alive():
            tail = "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])
            raise BenchError(f"{self._command[2]} ended while it was measured. The end of its log:\n{tail}")

    def _signal(self, number: signal.Signals) -> None:
        if self.pid is not None:
            os.kill(self.pid, number)

    def _prepare(self) -> list[str]:
        return self._command

    def _environment(self) -> dict[str, str]:
        ours = in_variables(self.settings) | {f"{ENV_PREFIX}WEB_PORT": str(self.settings.web_port)}
        return plain_environment() | ours | {"PYTHONPATH": str(ROOT)}

    def _answers(self) -> bool:
        if not self._pages:
            return True
        try:
            with urllib.request.urlopen(f"http://{self.address}/health/ready", timeout=2) as answer:
                return bool(answer.status == HTTPStatus.OK)
        except (OSError, urllib.error.URLError):
            return False


@asynccontextmanager
async def producer(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Give a producer for events."""
    client = AIOKafkaProducer(bootstrap_servers=settings.broker, acks="all", **options)
    await client.start()
    try:
        yield client
    finally:
        await client.stop()


async def write(settings: Settings, messages: Sequence[Message]) -> None:
    """Write events to the input topics, and return when all are durable."""
    topics = names(settings).inputs
    async with producer(settings, linger_ms=20, max_batch_size=262_144) as client:
        sent = [
            await client.send(
                topics[one.topic],
                one.record.value,
                key=one.record.key,
                partition=one.partition,
                timestamp_ms=one.at_ms,
                headers=list(one.record.headers),
            )
            for one in messages
        ]
        await asyncio.gather(*sent)


def run_program(program: str, *arguments: str, environment: Mapping[str, str] | None = None) -> bytes:
    """Run a side that ends by itself, and return what it printed.

    Raises:
        BenchError: it failed.
    """
    result = subprocess.run(
        [sys.executable, "-m", f"tests.bench.sides.{program}", *arguments],
        capture_output=True,
        check=False,
        env=plain_environment() | {"PYTHONPATH": str(ROOT)} | dict(environment or {}),
        cwd=ROOT,
    )
    if result.returncode:
        tail = "\n".join(result.stderr.decode(errors="replace").splitlines()[-20:])
        raise BenchError(f"{program} failed:\n{tail}")
    return result.stdout


def _cpu_s(pid: int | None) -> float:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    user, system = text.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def now_ms() -> int:
    """Milliseconds since the epoch."""
    return SystemClock().now_ms()
