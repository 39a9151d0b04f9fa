"""`slotwise up`: broker, database, worker and sink on this machine as one program, until it is stopped.

This file owns the data directory, the order of start and stop, and the settings of every part; the parts know only
each other's addresses. The main thread starts and stops everything (Linux ties "die with me" to the thread that starts
a part); `Watch` has a thread of its own.

The broker of the installation has its data in memory. When it ends, its journal is lost while the audit stays, and
steps that count from 0 again must not be added to the old ones. So each *life* of the journal has a name of its own in
the audit: the time of its start. A durable broker keeps its life over restarts.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal, Self, cast

import msgspec
import psycopg
from kafka.errors import KafkaError
from msgspec import Struct
from psycopg import sql

from streams import up_file
from streams.database.migrations import migrate
from streams.errors import MISTAKE, SlotwiseError
from streams.host import try_lock
from streams.local.kafka import ApacheKafka
from streams.local.own_parts import SamplePart, SinkPart, WebPart, WorkerPart
from streams.local.postgres import EmbeddedPostgres
from streams.local.probe import broker_answers
from streams.local.process import EmbeddedError, Part
from streams.local.remains import Remains, audit_lacks, undecided_inputs
from streams.local.result import Result, compare, summarise
from streams.local.signals import signals_ignored
from streams.local.supervisor import Supervisor
from streams.local.tansu import EmbeddedBroker
from streams.local.watch import Counts, Watch
from streams.sample.play import SampleProgress
from streams.secret import Dsn
from streams.settings import KAFKA_GROUP, Settings, table
from streams.shipped import shipped
from streams.topics import create_topics
from streams.up_file import UpFile

BrokerKind = Literal["embedded", "kafka"]

#: Longest wait at the end for the worker to handle what was sent, and then for the audit to have every step.
DECIDE_S_MAX: Final = 3.0
DRAIN_S_MAX: Final = 10.0
DRAIN_POLL_S: Final = 0.05
#: Most notes on the board.
NOTES_MAX: Final = 5
DATABASE: Final = "slotwise"
#: Durations of the policy that must be scaled to the sample's speed.
SAMPLE_CLOCKS: Final = ("recompute_s", "window_s", "ageing_s_per_point")


class UpError(SlotwiseError):
    """`slotwise up` cannot run as requested; the message says what to do."""

    exit_code = MISTAKE


class Options(Struct, frozen=True, kw_only=True):
    """Options of a run beyond its settings."""

    broker: BrokerKind = "embedded"
    sample: bool = False
    tasks: int = 2_000
    speed: float = 100.0
    until_idle: bool = False
    idle_s_max: float = 300.0
    #: Open the web pages in a browser when they are served.
    open_pages: bool = False
    #: Port of the worker's pages; None: any free one.
    web_port: int | None = None
    #: Port of the HTTP API; None: any free one.
    http_port: int | None = None


class Up:
    """Everything that `slotwise up` runs. A context manager: parts that were started are stopped at its end."""

    def __init__(self, settings: Settings, options: Options, report: Callable[[str], None]) -> None:
        """`report` receives a sentence for each event of the parts."""
        self.options = options
        self.directory = Path(settings.data_dir).absolute()
        self.logs = self.directory / "logs"
        #: The latest unexpected events.
        self.notes: list[str] = []
        self._report = report
        self._given = settings
        #: Settings of the parts: the given ones, with the addresses of this run.
        self.settings = settings
        self._claim: int | None = None
        self._supervisor = Supervisor(report)
        #: Of parts that others connect to; None: any free one, which then stays over the lives of the journal.
        self._ports: dict[str, int | None] = {
            "broker": None,
            "sink": settings.sink_web_port or None,
            "worker": options.web_port,
            "web": options.http_port,
        }
        self.watch: Watch | None = None
        self.ready_s = time.monotonic()
        #: The result, when everything has ended; None where topics and audit were never compared.
        self.result: Result | None = None
        #: What is undone, when everything has ended; None where it could not be seen.
        self.remains: Remains | None = None

    def __enter__(self) -> Self:
        """Claim the data directory."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._claim = try_lock(self.directory / ".lock")
        if self._claim is None:
            raise UpError(
                f"Another `slotwise up` is running on {self.directory}: "
                "stop it, or name another directory with --data-dir."
            )
        up_file.remove(self.directory)
        for log in self.logs.glob("*.log*"):  # of an earlier run
            log.unlink()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop every part, the sample first and the broker last, and unlock the directory."""
        self.stop()
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    @property
    def progress(self) -> SampleProgress | None:
        """SampleProgress of the sample; None without one."""
        part = self._parts.get("sample")
        return part.progress if isinstance(part, SamplePart) else None

    @property
    def http(self) -> str:
        """Address of the HTTP API."""
        return cast("WebPart", self._parts["web"]).pages

    def start(self) -> None:
        """Start everything and write `up.json`.

        Raises:
            EmbeddedError, TopicsError, DatabaseError: a part does not start; nothing is left running.
        """
        first: dict[str, Part] = {"broker": self._make_broker()}
        if "database" not in self._parts:
            first["database"] = EmbeddedPostgres(self.directory / "postgres", log_file=self._log("postgres"))
        self._supervisor.start(**first)
        settings = self.settings = self._settings()
        self._report("Creating topics and schema.")
        create_topics(settings)
        _create_database(self._database)
        migrate(settings.database)
        # Started before the first record is written, so that it reads all of them.
        self.watch = Watch(settings, from_start=not self._broker.durable)
        self.watch.start()
        self._supervisor.start(
            sink=SinkPart(settings, log_file=self._log("sink"), port=self._ports["sink"]),
            worker=WorkerPart(
                settings, log_file=self._log("worker"), port=self._ports["worker"], durable=self._broker.durable
            ),
            web=WebPart(settings, log_file=self._log("web"), port=self._ports["web"]),
        )
        self.ready_s = time.monotonic()
        if self.options.sample:
            self._supervisor.start(sample=self._sample(settings))
        self._write_up_file()

    def tend(self) -> None:
        """Restart parts that have died, and keep their logs bounded."""
        for part in self._parts.values():
            part.trim_log()
        for name in self._supervisor.died():
            part = self._parts[name]
            if name == "broker" and not part.durable:
                self._start_over()
                return
            self._note(f"{part.name} ended; it is started again (its log: {part.log_file}).")
            try:
                self._supervisor.restart(name)
            except EmbeddedError as error:
                self._note(str(error).splitlines()[0])
            self._write_up_file()

    def activity(self) -> tuple[int, ...]:
        """Return numbers that change as long as work goes on."""
        watch = self.watch
        if watch is None or watch.counts is None:
            return ()
        counts = watch.counts
        with watch.lock:
            seen = (watch.stats.steps, watch.stats.decisions_total)
        return (*seen, sum(counts.records.values()), counts.audit_steps, self._supervisor.restarts.total())

    def open_ends(self) -> list[str]:
        """Return what must still happen before the run is idle."""
        watch = self.watch
        if watch is None or watch.counts is None:
            return [watch.trouble if watch and watch.trouble else "Topics and audit were not compared yet."]
        if watch.trouble:
            return [watch.trouble]
        with watch.lock:
            return list(compare(watch.stats, watch.counts, self.progress))

    def stop(self) -> None:
        """Stop every part that runs."""
        with signals_ignored():
            up_file.remove(self.directory)
            if "broker" in self._parts and self._broker.alive() and not broker_answers(self._broker.port):
                self._note(
                    "The broker does not answer: all parts are ended without it. Nothing that is durable is lost."
                )
                for name in ("sample", "web", "worker", "sink", "broker"):
                    self._supervisor.kill(name)
            progress, seconds = self.progress, time.monotonic() - self.ready_s
            self._supervisor.stop("sample")
            self._supervisor.stop("web")
            if "worker" in self._parts and self._parts["worker"].alive():
                self._counts_when(lambda counts: not counts.inputs_unhandled, DECIDE_S_MAX)
            self._supervisor.stop("worker")
            if "sink" in self._parts and "broker" in self._parts and self._broker.alive():
                self._drain()
            self._summarise(progress, seconds)
            if self.watch is not None:
                self.watch.stop()
            for name in ("sink", "database", "broker"):
                self._supervisor.stop(name)

    @property
    def _parts(self) -> dict[str, Part]:
        return self._supervisor.parts

    @property
    def _broker(self) -> Part:
        return self._parts["broker"]

    @property
    def _database(self) -> EmbeddedPostgres:
        return cast("EmbeddedPostgres", self._parts["database"])

    def _make_broker(self) -> Part:
        if self.options.broker == "kafka":
            return ApacheKafka(self.directory / "kafka", log_file=self._log("kafka"))
        self._note("The broker keeps topics in memory: they end with this run. The audit in Postgres stays.")
        return EmbeddedBroker(log_file=self._log("broker"), port=self._ports["broker"])

    def _sample(self, settings: Settings) -> SamplePart:
        status = self.directory / "sample.json"
        status.unlink(missing_ok=True)
        return SamplePart(
            settings,
            tasks=self.options.tasks,
            speed=self.options.speed,
            run=f"sample-{datetime.now(UTC):%Y%m%dT%H%M%S}",
            status=status,
            log_file=self._log("sample"),
        )

    def _settings(self) -> Settings:
        broker = self._broker
        # The brokers of `up` listen on this machine only, without encryption or login.
        plain = {row.name: row.default for row in table() if row.name.startswith(KAFKA_GROUP)}
        changes: dict[str, Any] = {
            **plain,
            "broker": broker.address,
            "database": Dsn(self._database.dsn_of(DATABASE)),
            "journal": _durable_life(broker.directory) if isinstance(broker, ApacheKafka) else _new_life(),
            "data_dir": str(self.directory),
            "catalog": str(Path(self._given.catalog).absolute()) if self._given.catalog else "",
            "policy": str(Path(self._given.policy).absolute()) if self._given.policy else "",
            "http_tokens": str(Path(self._given.http_tokens).absolute()) if self._given.http_tokens else "",
        }
        if self.options.sample and not self._given.policy:
            changes["policy"] = str(_sample_policy(self.directory / "sample-policy.toml", self.options.speed))
        return msgspec.structs.replace(self._given, **changes)

    def _start_over(self) -> None:
        """Start a new life of the journal on the same database, after a broker with topics in memory has ended."""
        self._note("The broker ended, and its topics with it: everything starts over. The audit in Postgres stays.")
        self._supervisor.restarts["broker"] += 1
        up_file.remove(self.directory)
        if self.watch is not None:
            self.watch.stop()
        self._ports |= {name: part.port for name, part in self._parts.items() if name in self._ports}
        for name in ("sample", "web", "worker", "sink"):
            self._supervisor.kill(name)
        self.start()

    def _drain(self) -> None:
        """Wait until the audit has every step: a journal in memory can be copied only while its broker runs."""
        watch = self.watch
        if watch is None:
            return
        self._report("Waiting for the audit to catch up.")
        counts = self._counts_when(lambda now: not self._audit_lacks(now), DRAIN_S_MAX)
        if counts is None:
            trouble = watch.trouble or "there was no time for it"
            self.remains = Remains(audit_lacks=(f"Journal and audit could not be compared: {trouble}.",))
            return
        lacks = self._audit_lacks(counts)
        undecided: dict[str, int] = {}
        named: tuple[str, ...] = ()
        if counts.inputs_unhandled:
            try:
                undecided, named = undecided_inputs(self.settings, watch.handled())
            except KafkaError as error:
                lacks = (*lacks, f"What was sent and not decided cannot be read: {error}.")
        self.remains = Remains(audit_lacks=lacks, undecided=undecided, named=named, durable=self._broker.durable)

    def _audit_lacks(self, counts: Counts) -> tuple[str, ...]:
        watch = cast("Watch", self.watch)
        with watch.lock:
            return tuple(audit_lacks(watch.stats, counts))

    def _counts_when(self, enough: Callable[[Counts], bool], wait_s_max: float) -> Counts | None:
        """Wait for a comparison that began from now on and is enough; return the last one, None: there was none."""
        watch, since_s = self.watch, time.monotonic()
        found: Counts | None = None
        while watch is not None and time.monotonic() - since_s < wait_s_max:
            counts = watch.counts
            if counts is not None and counts is not found and counts.began_s >= since_s and counts.quiet:
                found = counts
                if enough(counts):
                    break
            watch.look()
            time.sleep(DRAIN_POLL_S)
        return found

    def _summarise(self, progress: SampleProgress | None, seconds: float) -> None:
        watch = self.watch
        if watch is None or watch.counts is None:
            return
        counts = watch.counts
        if self.remains is not None:  # a tick that came last is no input of anyone
            undecided = sum(self.remains.undecided.values())
            counts = msgspec.structs.replace(counts, inputs_unhandled=undecided)
        with watch.lock:
            self.result = summarise(
                *(watch.stats, counts),
                progress=progress,
                seconds=seconds,
                restarts=dict(self._supervisor.restarts),
                remains=self.remains,
            )

    def _write_up_file(self) -> None:
        settings = self.settings
        worker, sink = cast("WorkerPart", self._parts["worker"]), cast("SinkPart", self._parts["sink"])
        pids = {"up": os.getpid()} | self._supervisor.pids
        values = {row.name: getattr(settings, row.name) for row in table() if row.name not in up_file.ADDRESSES}
        others = {name: value for name, value in values.items() if value != getattr(Settings(), name)}
        content = UpFile(
            broker=settings.broker,
            database=self._database.dsn_of(DATABASE),
            web=worker.pages,
            http=self.http,
            sink=sink.pages,
            pids=pids,
            settings=others,
        )
        up_file.write(self.directory, content)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"

    def _note(self, text: str) -> None:
        self.notes = [*self.notes[1 - NOTES_MAX :], text]
        self._report(text)


def _new_life() -> str:
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"


def _durable_life(directory: Path) -> str:
    """Return the life of a durable journal; it is stored beside the journal and deleted with it."""
    path = directory / "life"
    if not path.exists():
        path.write_text(_new_life())
    return path.read_text()


def _create_database(server: EmbeddedPostgres) -> None:
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        if not admin.execute("SELECT FROM pg_database WHERE datname = %s", (DATABASE,)).fetchall():
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))


def _sample_policy(path: Path, speed: float) -> Path:
    """Write the shipped policy with durations scaled to the sample's speed, at which an hour passes in seconds."""
    clock = re.compile(rf"^({'|'.join(SAMPLE_CLOCKS)}) = ([0-9.]+)", re.MULTILINE)
    text = shipped("policy.toml")
    faster = clock.sub(lambda found: f"{found[1]} = {max(0.001, float(found[2]) / speed):.6g}", text)
    clocks = ", ".join(SAMPLE_CLOCKS)
    path.write_text(f"# The shipped policy; its clocks {clocks} run {speed:g} times faster.\n{faster}")
    return path
