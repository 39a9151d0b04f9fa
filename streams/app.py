"""The composition root: the parts of a worker are connected here and nowhere else."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any, Final
from urllib.parse import quote

import faust
from faust.auth import Credentials, SASLCredentials, SSLCredentials
from faust.types import TP
from yarl import URL

from schemas.vocabulary import Mode
from streams import metrics
from streams.access.security import security_of
from streams.agents import add_agents
from streams.clock import SystemClock
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.kafka.client import Broker
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.forwards import KafkaForwards
from streams.kafka.journal import KafkaDeadLetters, KafkaInputs, KafkaJournal, KafkaTicks
from streams.kafka.outputs import KafkaOutputs, ProgressGroup
from streams.kafka.transport import Transport, check_delivery
from streams.pages import add_pages
from streams.partition.assignment import Assignment
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.clock_watch import ClockWatch
from streams.partition.ports import Limits, Ports, StateMachine
from streams.partition.publish import Publisher
from streams.partition.quiet import quiet
from streams.partition.worker import PartitionWorker
from streams.plugins.advisor import Plugins
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.tables import Tables
from streams.topic_names import TABLES, Names
from streams.topics import home_of, names

_log = logging.getLogger(__name__)

#: Offsets are committed for dashboards only, so seldom is enough.
COMMIT_INTERVAL_S: Final = 1.0
#: Faust's own time-out of a request to the broker, which also ends its patience with a recovery that goes on.
REQUEST_TIMEOUT_S_MIN: Final = 40.0
FETCH_BYTES_MAX: Final = 4_194_304
#: How long changelog records gather to one request, and how large it may be.
CHANGELOG_LINGER_S: Final = 0.05
CHANGELOG_BATCH_BYTES: Final = 256_000
#: Table rows on their way to the changelogs before Faust holds the streams back.
CHANGELOG_RECORDS_MAX: Final = 100_000


class App(faust.App):
    """A Faust app with its partitions' workers; the transport and the pages look here."""

    settings: Settings
    names: Names
    assignment: Assignment
    projections: Tables
    connections: tuple[Broker, ProgressGroup]
    #: Whether a worker that is stopped gives its partitions to others at once, and does not come back for them.
    leaves_group: bool = True
    #: The error that ended the worker; None: none did.
    failure: BaseException | None = None

    async def on_start(self) -> None:
        """Connect before anything of Faust does."""
        await super().on_start()
        for connection in self.connections:
            await connection.start()
        # One row a slot and minute: far more than Faust expects to be on its way at once.
        self.producer.buffer.max_messages = CHANGELOG_RECORDS_MAX
        # Running from the start: a worker that gets no partition must be able to end.
        self.add_future(check_delivery(self, self.settings.delivery_check_s, self.settings.recovery_timeout_s))

    def _create_directories(self) -> None:
        """Tables live in memory and in their changelogs: there is nothing to keep in a directory."""

    def failed(self, error: BaseException) -> None:
        """End the worker because of this."""
        if self.failure is None:
            self.failure = error
            _log.critical("%s", error)
            # Later errors are consequences and would hide the sentence.
            logging.disable(logging.ERROR)
            self.loop.create_task(self.crash(error))


class _Projection(faust.Table[Any, Any]):
    """A table with the partition in its keys, so that it can be written between two events."""

    def partition_for_key(self, key: Any) -> int:
        """The partition whose journal the row is made of."""
        partition: int = key[1]
        return partition


def build_app(settings: Settings) -> App:
    """Build the app of a worker. No connection is opened before it starts.

    Raises:
        TextFileError: catalogue or policy cannot be read.
        RulebookError: they hold mistakes, or name a plug-in that cannot be used here.
    """
    rulebook = file_rulebook(settings)
    plugins = Plugins()
    plugins.check(rulebook)
    known = names(settings)
    broker = Broker(settings)
    progress = ProgressGroup(broker, known, known.publisher_group, settings.partitions)
    app = _faust_app(settings)
    app.settings, app.names = settings, known
    app.assignment = Assignment(
        _worker_maker(app, broker, progress, rulebook, plugins), app.failed, settings.recovery_timeout_s
    )
    tables = {
        name: app.Table(name, partitions=settings.partitions, help="A projection of the journal.") for name in TABLES
    }
    app.projections = Tables(
        tables["utilisation"],
        tables["ev_percentiles"],
        journal=lambda partition: KafkaJournal(broker, known, partition),
        forget=lambda rows, key: rows.data.data.pop(key, None),  # type: ignore[attr-defined]
    )
    add_agents(app, known, app.assignment, app.projections)
    add_pages(app)
    _add_life(app, broker, progress, plugins)
    metrics.INSTALLED.set(settings.partitions)
    metrics.BUILD.labels(version("slotwise")).set(1)
    return app


def _faust_app(settings: Settings) -> App:
    app = App(
        names(settings).group,
        Table=_Projection,
        broker=[URL(f"kafka://{address}") for address in settings.broker.split(",")],
        broker_credentials=_credentials(settings),
        store="memory://",
        origin=None,
        autodiscover=False,
        version=1,
        datadir=f"{settings.data_dir}/faust",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=max(0.3, settings.session_timeout_s / 6),
        broker_rebalance_timeout=settings.rebalance_timeout_s,
        broker_request_timeout=max(REQUEST_TIMEOUT_S_MIN, settings.session_timeout_s + 1),
        broker_commit_interval=COMMIT_INTERVAL_S,
        broker_commit_every=1_000_000,
        broker_max_poll_records=10_000,
        consumer_max_fetch_size=FETCH_BYTES_MAX,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=settings.instance_id or None,
        # Faust compares it with the group's record of a static member; no client connects to it.
        canonical_url=f"http://slotwise/{quote(settings.instance_id or uuid.uuid4().hex, safe='')}",
        producer_acks=-1,
        # Faust's producer carries only the tables' changelogs; journal and outputs have producers of their own.
        producer_linger=CHANGELOG_LINGER_S,
        producer_max_batch_size=CHANGELOG_BATCH_BYTES,
        stream_recovery_delay=0.0,
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication,
        # Without standbys and with a table, Faust's own assignor keeps equal partitions of all topics together.
        table_standby_replicas=0,
        topic_disable_leader=True,
        # `check_topics` has found all of them: a worker needs no right to create any.
        topic_allow_declare=False,
        reply_create_topic=False,
        key_serializer="raw",
        value_serializer="raw",
        worker_redirect_stdouts=False,
        web_enabled=True,
        web_host=settings.web_host,
        web_bind=settings.web_host,
        web_port=settings.web_port,
        # Faust's own pages would show table data and the topology without a login.
        web_tables_enabled=False,
        web_router_enabled=False,
        web_stats_enabled=False,
        web_graph_enabled=False,
        web_metrics_enabled=False,
    )
    app.transport = Transport(app.conf.broker_consumer, app)
    return app


def _credentials(settings: Settings) -> Credentials | None:
    """What Faust's consumer and producer log in with, the same as every other client."""
    security = security_of(settings)
    if (login := security.login) is not None:
        # With a context it is SASL_SSL, without one SASL_PLAINTEXT.
        return SASLCredentials(
            username=login.user,
            password=login.password.reveal(),
            ssl_context=security.tls,
            mechanism=login.mechanism,
        )
    return SSLCredentials(security.tls) if security.tls is not None else None


def _worker_maker(
    app: App, broker: Broker, progress: ProgressGroup, rulebook: Rulebook, plugins: Plugins
) -> Callable[[int], PartitionWorker]:
    settings, known = app.settings, app.names
    clock, watch = SystemClock(), ClockWatch()
    home = home_of(settings.partitions)
    mode: Mode = "shadow" if settings.dry_run else "live"
    limits = Limits(
        step_inputs_max=settings.step_inputs_max,
        step_bytes_max=settings.step_bytes_max,
        round_ms_min=settings.round_ms_min,
        now_ahead_ms_max=settings.now_ahead_ms_max,
        checkpoint_changes_min=settings.checkpoint_changes_min,
        journal_retention_hours=settings.retention_hours,
    )

    def pressure(partition: int) -> Callable[[int, bool], None]:
        def report(topic: int, full: bool) -> None:  # noqa: FBT001 - of the port
            tp = TP(known.inputs[topic], partition)
            (app.consumer.on_buffer_full if full else app.consumer.on_buffer_drop)(tp)

        return report

    def make(partition: int) -> Callable[[Iterable[bytes] | None], StateMachine]:
        def machine(chunks: Iterable[bytes] | None) -> StateMachine:
            if chunks is None:
                return Router(partition, rulebook, mode=mode)
            return Router.restore(partition, rulebook, chunks, mode=mode)

        return machine

    def open_worker(partition: int) -> PartitionWorker:
        journal, published = KafkaJournal(broker, known, partition), progress.of(partition)
        ports = Ports(
            journal=journal,
            inputs=KafkaInputs(broker, known, partition),
            dead_letters=KafkaDeadLetters(broker, known, partition),
            forwards=KafkaForwards(broker, known, partition),
            ticks=KafkaTicks(broker, known, partition),
            checkpoints=AlternatingCheckpoints(partition, KafkaCompacted(broker, known, partition), clock),
            clock=clock,
            clock_watch=watch,
            follower=Publisher(partition, journal, KafkaOutputs(broker, known, partition), published),
            published_journal=published.journal_id,
            home=home,
            pressure=pressure(partition),
            advisor=plugins.advisor,
            rulebook=rulebook,
        )
        return PartitionWorker(partition, make(partition), quiet(ports) if settings.dry_run else ports, limits)

    return open_worker


def _add_life(app: App, broker: Broker, progress: ProgressGroup, plugins: Plugins) -> None:
    """Connect the parts to Faust's life cycle: start, rebalance and end."""
    app.connections = (broker, progress)

    async def revoked(_app: Any, *_: Any, **__: Any) -> None:
        # The workers have finished their inputs, because Faust waits for the acks; now they halt.
        metrics.REBALANCES.inc()
        await app.assignment.halt()

    async def recovered(_app: Any, *_: Any, **__: Any) -> None:
        # What was fetched before the seek must not reach the workers: it would begin behind a gap.
        app.flow_control.suspend()
        app.consumer.stop_flow()
        app.flow_control.clear()

    async def stopping(_app: Any, *_: Any, **__: Any) -> None:
        await app.assignment.halt()
        plugins.close()
        await app.projections.flush()
        await progress.stop()
        await broker.stop()

    signals: tuple[tuple[Any, Callable[..., Any]], ...] = (
        (app.on_partitions_revoked, revoked),
        (app.on_rebalance_complete, recovered),
        (app.on_before_shutdown, stopping),
    )
    for signal, handler in signals:
        signal.connect(handler, weak=False)
