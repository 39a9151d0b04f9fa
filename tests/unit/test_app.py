"""The app is put together from its settings; it connects when it starts, and ends in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

import streams.app
from streams.app import App, build_app
from streams.core.policy.rulebook import RulebookError
from streams.core.router import Router
from streams.kafka.compacted import KafkaCompacted
from streams.kafka.journal import KafkaDeadLetters, KafkaInputs, KafkaJournal, KafkaTicks
from streams.kafka.transport import Transport
from streams.pages import readiness
from streams.partition.checkpoint import AlternatingCheckpoints
from streams.partition.publish import Publisher
from streams.settings import Settings
from streams.text_file import TextFileError

EVENTS: list[str] = []


class StubBroker:
    """The connections, which only say that they are started and stopped."""

    def __init__(self, _: Settings) -> None:
        self.name = "broker"

    async def start(self) -> None:
        """Note it."""
        EVENTS.append(f"{self.name} starts")

    async def stop(self) -> None:
        """Note it."""
        EVENTS.append(f"{self.name} stops")


class StubProgress(StubBroker):
    """The publisher's progress."""

    def __init__(self, _broker: Any, _names: Any, group: str, partitions: int) -> None:
        self.name, self.group, self.partitions = "progress", group, partitions

    def of(self, partition: int) -> SimpleNamespace:
        """Give the progress of one partition."""
        return SimpleNamespace(place=(self.group, partition), journal_id=None)


@pytest.fixture
def stubbed(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Without a broker; what happens is noted."""
    EVENTS.clear()
    monkeypatch.setattr(streams.app, "Broker", StubBroker)
    monkeypatch.setattr(streams.app, "ProgressGroup", StubProgress)
    yield monkeypatch
    logging.disable(logging.NOTSET)


async def made(**settings: Any) -> App:
    """An app of two partitions."""
    return build_app(Settings(**{"partitions": 2, "topic_prefix": "x.", "group": "test", **settings}))


@pytest.mark.usefixtures("stubbed")
async def test_the_app_has_these_agents_tables_and_pages() -> None:
    """And nothing of Faust's own, which would show table data to anyone."""
    app = await made()
    assert sorted(app.agents) == ["projections", "router"]
    assert sorted(app.tables) == ["ev_percentiles", "utilisation"]
    assert {table.partitions for table in app.tables.values()} == {2}
    assert sorted(app.web.views) == ["/health/live", "/health/ready", "/metrics", "/tables/{table}"]
    assert isinstance(app.transport, Transport)
    off = ("web_tables_enabled", "web_router_enabled", "web_stats_enabled", "web_graph_enabled", "web_metrics_enabled")
    assert [getattr(app.conf, name) for name in off] == [False] * len(off)


@pytest.mark.usefixtures("stubbed")
async def test_settings_reach_faust() -> None:
    """Session, group and acknowledgements."""
    app = await made(broker="a:1,b:2", session_timeout_s=12.0, rebalance_timeout_s=7.0, instance_id="one")
    conf = app.conf
    assert conf.id == "test"
    assert [str(url) for url in conf.broker] == ["kafka://a:1", "kafka://b:2"]
    timeouts = (conf.broker_session_timeout, conf.broker_rebalance_timeout, conf.broker_heartbeat_interval)
    assert timeouts == (12.0, 7.0, 2.0)
    assert (conf.consumer_group_instance_id, conf.producer_acks, conf.table_standby_replicas) == ("one", -1, 0)
    assert (conf.topic_partitions, conf.consumer_auto_offset_reset) == (2, "earliest")


@pytest.mark.usefixtures("stubbed")
async def test_a_partitions_worker_has_the_ports_on_kafka() -> None:
    """All of the same partition, with the limits of the settings and a publisher of its own."""
    app = await made(step_inputs_max=17, checkpoint_changes_min=3, retention_hours=5.0)
    worker = app.assignment._open(1)
    ports = worker._ports
    assert worker.partition == 1
    kinds = [type(one) for one in (ports.journal, ports.inputs, ports.dead_letters, ports.ticks, ports.checkpoints)]
    assert kinds == [KafkaJournal, KafkaInputs, KafkaDeadLetters, KafkaTicks, AlternatingCheckpoints]
    assert isinstance(ports.checkpoints, AlternatingCheckpoints)
    assert isinstance(ports.checkpoints._topic, KafkaCompacted)
    assert isinstance(ports.follower, Publisher)
    progress: Any = ports.follower._progress
    assert progress.place == ("test-publisher", 1)
    limits = worker._limits
    assert (limits.step_inputs_max, limits.checkpoint_changes_min, limits.journal_retention_hours) == (17, 3, 5.0)
    machine = worker._make(None)
    assert isinstance(machine, Router)
    assert machine.rulebook is ports.rulebook


@pytest.mark.usefixtures("stubbed")
async def test_a_full_inbox_pauses_its_partition_at_the_consumer() -> None:
    """By the topic's name on the broker."""
    app = await made()
    heard: list[tuple[str, TP]] = []
    vars(app)["_consumer"] = SimpleNamespace(
        on_buffer_full=lambda tp: heard.append(("full", tp)), on_buffer_drop=lambda tp: heard.append(("room", tp))
    )
    pressure = app.assignment._open(1)._ports.pressure
    pressure(2, True)
    pressure(2, False)
    tp = TP("x.fleet.control", 1)
    assert heard == [("full", tp), ("room", tp)]


async def test_a_mistake_in_a_file_stops_the_start(stubbed: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything connects."""
    del stubbed
    policy = tmp_path / "policy.toml"
    policy.write_text("[premium]\nev_percentile_mni = 1\n")
    with pytest.raises(RulebookError, match="ev_percentile_mni"):
        await made(policy=str(policy))
    with pytest.raises(TextFileError, match="cannot be read"):
        await made(catalog=str(tmp_path / "none.toml"))
    assert EVENTS == []


# Life -----------------------------------------------------------------------------------------------------------------


class StubAssignment:
    """An assignment that notes what it is asked."""

    generation = 1

    def __init__(self) -> None:
        self.workers: dict[int, Any] = {}

    async def halt(self) -> None:
        """Note it."""
        EVENTS.append("workers halt")

    def unjournaled_s_max(self) -> float:
        """Nothing waits."""
        return 0.0


@pytest.mark.usefixtures("stubbed")
async def test_a_revocation_halts_the_workers() -> None:
    """Faust has waited for their acks."""
    app = await made()
    app.assignment = StubAssignment()  # type: ignore[assignment]
    await app.on_partitions_revoked.send({TP("x.task.pending", 0)})
    assert EVENTS == ["workers halt"]


@pytest.mark.usefixtures("stubbed")
async def test_after_a_recovery_what_was_fetched_before_the_seek_is_dropped() -> None:
    """It would begin behind a gap."""
    app = await made()
    vars(app)["_consumer"] = SimpleNamespace(stop_flow=lambda: EVENTS.append("flow stops"))
    vars(app)["flow_control"] = SimpleNamespace(
        suspend=lambda: EVENTS.append("queues rest"), clear=lambda: EVENTS.append("queues are empty")
    )
    await app.on_rebalance_complete.send()
    assert EVENTS == ["queues rest", "flow stops", "queues are empty"]


@pytest.mark.usefixtures("stubbed")
async def test_an_end_is_in_order() -> None:
    """Workers first, since they write; then what they write by."""
    app = await made()
    app.assignment = StubAssignment()  # type: ignore[assignment]

    async def flush() -> None:
        EVENTS.append("tables are flushed")

    app.projections = SimpleNamespace(flush=flush)  # type: ignore[assignment]
    await app.on_before_shutdown.send()
    assert EVENTS == ["workers halt", "tables are flushed", "progress stops", "broker stops"]


async def test_the_first_failure_ends_the_worker_and_is_its_sentence(
    stubbed: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What fails after it is a consequence."""
    app, crashes = await made(), list[BaseException]()

    async def crash(error: BaseException) -> None:
        crashes.append(error)

    stubbed.setattr(app, "crash", crash)
    first = RuntimeError("the journal was cut")
    app.failed(first)
    app.failed(RuntimeError("a consequence"))
    await asyncio.sleep(0)
    assert (app.failure, crashes) == (first, [first])
    assert caplog.messages == ["the journal was cut"]


# Readiness ------------------------------------------------------------------------------------------------------------


class Worker:
    """A worker's state."""

    def __init__(self, seq: int, *, working: bool = True) -> None:
        self.seq, self.working = seq, working

    def health(self) -> Any:
        """Give it."""
        return SimpleNamespace(seq=self.seq)


def state(
    workers: dict[int, Worker], *, unjournaled_s: float = 0.0, rebalancing: bool = False, generation: int = 1
) -> Any:
    """Readiness of an app with these workers, in generation 1."""
    assignment = SimpleNamespace(workers=workers, generation=generation, unjournaled_s_max=lambda: unjournaled_s)
    return readiness(SimpleNamespace(assignment=assignment, rebalancing=rebalancing, consumer_generation_id=1))


def test_a_worker_is_ready_when_all_its_partitions_work() -> None:
    """The page names each with its next step."""
    found = state({1: Worker(7), 0: Worker(3)})
    assert found == {"ready": True, "partitions": {"0": 3, "1": 7}, "oldest_unjournaled_s": 0.0}
    halted = state({0: Worker(3), 1: Worker(7, working=False)})
    assert (halted["ready"], halted["partitions"]) == (False, {"0": 3})


def test_a_worker_without_partitions_is_ready() -> None:
    """There are more workers than partitions."""
    assert state({})["ready"]


@pytest.mark.parametrize(
    "named", [{"rebalancing": True}, {"generation": 2}, {"unjournaled_s": 31.0}], ids=["rebalance", "generation", "age"]
)
def test_a_worker_is_not_ready_while(named: dict[str, Any]) -> None:
    """It rebalances, works for another generation, or cannot journal."""
    assert not state({0: Worker(3)}, **named)["ready"]
