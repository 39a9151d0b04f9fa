"""The parts for one machine start, answer, survive what they should survive, and stop."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from streams.host import PORT_MAX, PORT_MIN, free_port
from streams.local.kafka import ApacheKafka, fetch_kafka_jars, find_java
from streams.local.postgres import POSTGRES_VERSION, EmbeddedPostgres
from streams.local.process import EmbeddedError, MissingPart
from streams.local.tansu import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WAIT_S_MAX = 30


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that will happen; say what did not when it takes too long."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not condition():
        assert time.monotonic() < deadline, f"not within {WAIT_S_MAX} s: {what}"
        time.sleep(0.02)


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended (a zombie has)."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def count(dsn: str) -> int:
    """Count what a test has noted."""
    with psycopg.connect(dsn) as connection:
        row = connection.execute("SELECT count(*) FROM note").fetchone()
    assert row is not None
    return int(row[0])


@pytest.fixture
def directory() -> Iterator[Path]:
    """Give a directory for a server of the test's own."""
    with tempfile.TemporaryDirectory(prefix="slotwise-embedded-") as path:
        yield Path(path)


@pytest.fixture
def listener() -> Iterator[int]:
    """Give a port that a stranger listens on."""
    with socket.create_server(("127.0.0.1", free_port())) as server:
        yield server.getsockname()[1]


# Brokers


async def create_topic(address: str) -> str:
    """Make a topic of one partition and return its name."""
    topic = f"round-trip-{uuid.uuid4().hex}"
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
    return topic


async def produce(address: str, topic: str, *values: bytes) -> None:
    """Write records and wait until the broker has them."""
    async with AIOKafkaProducer(bootstrap_servers=address, acks="all") as producer:
        for value in values:
            await producer.send_and_wait(topic, value, partition=0)


async def consume(address: str, topic: str, records: int) -> list[bytes]:
    """Read a topic from its beginning."""
    async with AIOKafkaConsumer(bootstrap_servers=address, auto_offset_reset="earliest") as consumer:
        consumer.assign([TopicPartition(topic, 0)])
        return [(await consumer.getone()).value for _ in range(records)]


async def test_what_is_produced_is_consumed_in_its_order(broker: EmbeddedBroker | ApacheKafka) -> None:
    """Each kind of broker carries records there and back."""
    topic = await create_topic(broker.address)
    await produce(broker.address, topic, b"first", b"second")
    assert await consume(broker.address, topic, 2) == [b"first", b"second"]


async def test_kafka_keeps_its_records_when_it_is_killed(apache_kafka: ApacheKafka) -> None:
    """A killed Kafka comes back on the same address with what it had acknowledged."""
    topic = await create_topic(apache_kafka.address)
    await produce(apache_kafka.address, topic, b"kept")
    before = apache_kafka.address
    apache_kafka.kill()
    assert not apache_kafka.alive()
    assert apache_kafka.start() == before
    assert await consume(before, topic, 1) == [b"kept"]


def test_a_stopped_broker_leaves_no_process_behind(tmp_path: Path) -> None:
    """Stop ends the broker's own process."""
    broker = EmbeddedBroker(log_file=tmp_path / "tansu.log")
    broker.start()
    pid = broker.pid
    assert pid is not None
    assert broker.alive()
    broker.stop()
    assert not runs(pid)
    assert not broker.alive()
    assert broker.pid is None


def test_a_broker_restarts_on_the_same_address(tmp_path: Path) -> None:
    """Clients find a restarted broker where it was."""
    with EmbeddedBroker(log_file=tmp_path / "tansu.log") as broker:
        before = broker.address
        assert broker.restart() == before
        assert broker.alive()


def test_a_broker_says_that_its_port_is_taken(tmp_path: Path, listener: int) -> None:
    """A taken port is a sentence that names the port and what to do."""
    broker = EmbeddedBroker(port=listener, log_file=tmp_path / "tansu.log")
    with pytest.raises(EmbeddedError, match=rf"port {listener} .* stop that program or choose another port"):
        broker.start()


def test_a_broker_that_dies_at_once_shows_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that cannot start is reported with the end of its log, and not waited for."""
    failing = tmp_path / "tansu"
    failing.write_text("#!/bin/sh\necho the disk is on fire\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setenv("CALF_TANSU_BIN", str(failing))
    broker = EmbeddedBroker(log_file=tmp_path / "tansu.log")
    with pytest.raises(EmbeddedError, match=r"(?s)ended while starting.*the disk is on fire"):
        broker.start()
    assert not broker.alive()


def test_a_broker_without_a_binary_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing binary is a missing part."""
    monkeypatch.setenv("CALF_TANSU_BIN", str(tmp_path / "nowhere"))
    with pytest.raises(MissingPart, match="Tansu is missing"):
        EmbeddedBroker(log_file=tmp_path / "tansu.log").start()


def test_a_home_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The binary is unpacked once into the home directory; without one the message says what to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    with pytest.raises(EmbeddedError, match="set HOME to a directory"):
        EmbeddedBroker(log_file=tmp_path / "tansu.log").start()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child when its parent is killed")
def test_a_broker_does_not_survive_the_program_that_started_it(tmp_path: Path) -> None:
    """After `kill -9` of the parent nothing is left running."""
    program = (
        "import sys, time; from pathlib import Path; from streams.local.tansu import EmbeddedBroker\n"
        "broker = EmbeddedBroker(log_file=Path(sys.argv[1])); broker.start()\n"
        "print(broker.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "tansu.log")],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert runs(pid)
        assert os.getsid(pid) != os.getsid(parent.pid), "Ctrl-C in the parent's terminal would reach the broker"
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not runs(pid), "the broker ends after its parent")


# PostgreSQL


def test_postgres_answers_over_tcp(database: str) -> None:
    """A fresh database takes a connection and a query."""
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
        assert connection.info.server_version // 10_000 == POSTGRES_VERSION
        assert connection.info.host == "127.0.0.1"


def test_each_test_has_a_database_of_its_own(database: str) -> None:
    """What other tests have made is not there."""
    with psycopg.connect(database) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    assert tables == []


def test_postgres_asks_for_its_password(postgres_server: EmbeddedPostgres) -> None:
    """Other users of the machine reach the port, but not the data."""
    postgres_server.start()
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(postgres_server.dsn, password="a guess")


def test_postgres_keeps_its_data_over_a_restart_and_a_crash(directory: Path) -> None:
    """Committed rows survive both ways of ending, on the same port."""
    with EmbeddedPostgres(directory / "data") as server:
        before = server.dsn
        with psycopg.connect(before) as connection:
            connection.execute("CREATE TABLE note AS SELECT generate_series(1, 3)")
        server.restart()
        assert server.dsn == before
        assert count(before) == 3
        with psycopg.connect(before) as connection:
            connection.execute("INSERT INTO note VALUES (4)")
        server.stop("immediate")
        server.start()
        assert count(before) == 4
        pid = server.pid
    assert pid is not None
    assert not runs(pid)


def test_a_second_server_does_not_take_a_data_directory_in_use(directory: Path) -> None:
    """Two servers on one directory would destroy it; the second one says so and leaves the first alone."""
    with EmbeddedPostgres(directory) as first:
        with pytest.raises(EmbeddedError, match=r"already running on .*stop that one or choose another directory"):
            EmbeddedPostgres(directory).start()
        assert first.alive()
        with psycopg.connect(first.dsn) as connection:
            assert connection.execute("SELECT 1").fetchone() == (1,)


def test_postgres_says_that_its_port_is_taken(directory: Path, listener: int) -> None:
    """A taken port is the same sentence for each part, and the directory stays free."""
    with pytest.raises(EmbeddedError, match=f"PostgreSQL cannot listen on port {listener}"):
        EmbeddedPostgres(directory, port=listener).start()
    with EmbeddedPostgres(directory) as server:
        assert server.alive()


# Kafka's own needs


def test_jars_that_were_fetched_are_not_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole download is taken as it is, without Maven."""
    monkeypatch.setenv("PATH", "")
    assert fetch_kafka_jars(tmp_path) == tmp_path


def test_missing_maven_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who lacks Maven learns what it is for."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MissingPart, match=r"Maven.* is missing: install maven"):
        fetch_kafka_jars(tmp_path / "kafka")


def test_an_interrupted_download_is_not_taken_for_kafka(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Maven that fails half way leaves no directory that looks whole."""
    maven = tmp_path / "mvn"
    maven.write_text(
        '#!/bin/sh\nfor a; do case "$a" in -DoutputDirectory=*) mkdir "${a#*=}";; esac; done\necho no route; exit 1\n'
    )
    maven.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(MissingPart, match=r"(?s)could not download.*no route"):
        fetch_kafka_jars(tmp_path / "cache" / "kafka")
    assert list((tmp_path / "cache").iterdir()) == []


def test_missing_java_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither no Java nor an old one is taken; the sentence names what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    for path in ("", str(tmp_path)):
        monkeypatch.setenv("PATH", path)
        with pytest.raises(MissingPart, match="Java 17 or newer is missing"):
            find_java()


# Ports


def test_no_port_is_given_twice() -> None:
    """Ports without a listener are remembered; all are below the range of client ports."""
    ports = [free_port() for _ in range(50)]
    assert len(set(ports)) == len(ports)
    assert all(PORT_MIN <= port <= PORT_MAX for port in ports)
