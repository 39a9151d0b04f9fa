"""With the rights of `slotwise topics acls`, and no others, each part of slotwise works on a real Apache Kafka.

What is not granted is refused by the broker, and said once by slotwise. One broker, that of `secure_kafka`; the parts
that run long are programs, the others clients of this process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, KafkaError
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import TopicAuthorizationFailedError
from msgspec.structs import replace

from schemas.json_schema import DECISION_REPLAY, ROUTING_REPLAY
from schemas.vocabulary import (
    DECISION_AUDIT,
    FLEET_CONTROL,
    SLOT_FREED,
    TASK_FINISHED,
    TASK_PENDING,
    TASK_ROUTED,
    from_millis,
)
from streams.access.granted import AccessDenied
from streams.access.rights import PARTS, Part, grants, rights
from streams.access.security import client_options
from streams.client.tasks import AsyncClient
from streams.clock import SystemClock
from streams.errors import MISTAKE
from streams.host import free_port
from streams.settings import Settings, load
from streams.topics import (
    alter_topics,
    check_topics,
    create_replay_topics,
    create_topics,
    find_topics,
    names,
    renew_topics,
    topics,
)
from tests.functional.commands import DEADLINE_S, environment, slotwise, until
from tests.support.secure_kafka import PART_USERS, PASSWORD, SecureKafka

if TYPE_CHECKING:
    from collections.abc import Iterator

#: An attempt that the broker refuses is answered at once; this is for a machine that is busy with other tests.
ATTEMPT_MS = 30_000


class Guarded:
    """An installation on a broker that lets each part do what the table says, and nothing more."""

    def __init__(self, kafka: SecureKafka, folder: Path) -> None:
        self.folder = folder
        password = folder / "password"
        password.write_text(PASSWORD)
        unique = f"a{uuid.uuid4().hex[:8]}"
        self._common = {
            "SLOTWISE_BROKER": kafka.at("SASL"),
            "SLOTWISE_KAFKA_SECURITY": "SASL_SSL",
            "SLOTWISE_KAFKA_CA_FILE": str(kafka.authority.file),
            "SLOTWISE_KAFKA_SASL_MECHANISM": "PLAIN",
            "SLOTWISE_KAFKA_PASSWORD_FILE": str(password),
            "SLOTWISE_GROUP": unique,
            "SLOTWISE_TOPIC_PREFIX": f"{unique}.",
            "SLOTWISE_PARTITIONS": "2",
            "SLOTWISE_WEB_PORT": str(free_port()),
            "SLOTWISE_HTTP_PORT": str(free_port()),
            "SLOTWISE_DATA_DIR": str(folder / "data"),
            "SLOTWISE_REBALANCE_TIMEOUT_S": "1",
        }
        kafka.grant(grants(PARTS, names(self.settings("reader")), "User:slotwise-{part}"))
        create_topics(self.settings("administrator"))
        create_replay_topics(self.settings("replay"))

    def env(self, part: Part) -> dict[str, str]:
        """The settings of a part, for a program."""
        return {**self._common, "SLOTWISE_KAFKA_USER": PART_USERS[part]}

    def settings(self, part: Part) -> Settings:
        """The settings of a part."""
        return load(self.env(part))

    def topic(self, topic: str) -> str:
        """The name of a topic on the broker."""
        return names(self.settings("reader")).of(topic)

    @property
    def group(self) -> str:
        """The installation's group."""
        return self._common["SLOTWISE_GROUP"]

    @contextmanager
    def producer(self, part: Part) -> Iterator[KafkaProducer]:
        """A producer of a part."""
        producer = KafkaProducer(
            **client_options(self.settings(part)), acks="all", enable_idempotence=False, max_block_ms=ATTEMPT_MS
        )
        try:
            yield producer
        finally:
            producer.close(timeout=5)

    @contextmanager
    def consumer(self, part: Part, *names_: str, group: str | None) -> Iterator[Any]:
        """A consumer of a part."""
        options = {"group_id": group, "auto_offset_reset": "earliest"}
        consumer = KafkaConsumer(*names_, **client_options(self.settings(part)), **options)
        try:
            yield consumer
        finally:
            consumer.close()

    def send(self, part: Part, topic: str, event: dict[str, Any]) -> None:
        """Send an event as a part; it must be acknowledged."""
        with self.producer(part) as producer:
            value = json.dumps({"at": from_millis(SystemClock().now_ms()), **event}).encode()
            producer.send(self.topic(topic), key=event["pool"].encode(), value=value).get(30)

    @contextmanager
    def running(self, part: Part, *words: str) -> Iterator[Path]:
        """Run a program until the end of the block; give its log."""
        log = self.folder / f"{words[0]}.log"
        with (
            log.open("wb") as output,
            subprocess.Popen(
                [sys.executable, "-m", "streams.cli", *words],
                env=environment(self.env(part)),
                stdout=output,
                stderr=output,
            ) as process,
        ):
            try:
                yield log
                assert process.poll() is None, log.read_text()[-4000:]
                process.terminate()
                assert process.wait(DEADLINE_S) == 0, log.read_text()[-4000:]
            finally:
                process.kill()


@pytest.fixture(scope="module")
def guarded(secure_kafka: SecureKafka, tmp_path_factory: pytest.TempPathFactory) -> Guarded:
    """Give the installation of this module; its topics were made by its administrator."""
    return Guarded(secure_kafka, tmp_path_factory.mktemp("guarded"))


def test_each_part_works_with_these_rights_alone(guarded: Guarded) -> None:
    """A task goes from its producer over the worker to a dispatcher and back, and everyone who looks sees it."""
    pool, journal = "main", guarded.folder / "journal.jsonl"
    slot = {"slot_id": "h-1", "pool": pool, "model": "haiku"}
    web = f"http://127.0.0.1:{guarded.settings('web').http_port}"
    with (
        guarded.running("worker", "worker"),
        guarded.running("sink", "sink", "--to", str(journal)),
        guarded.running("web", "web"),
        guarded.consumer("dispatcher", guarded.topic(TASK_ROUTED), group=f"{guarded.group}-dispatcher-1") as routed,
        guarded.consumer("producer", guarded.topic(TASK_FINISHED), group=f"{guarded.group}-producer-ci") as finished,
    ):
        guarded.send("dispatcher", SLOT_FREED, slot)
        guarded.send("producer", TASK_PENDING, {"task_id": "t-1", "pool": pool})
        work = json.loads(first(routed).value)
        assert work["task_id"] == "t-1"
        outcome = {"task_id": "t-1", "status": "success"}
        guarded.send("dispatcher", SLOT_FREED, {**slot, "lease": work["lease"], "outcome": outcome})
        assert json.loads(first(finished).value)["task_id"] == "t-1"
        serves = ("--pool", "ready", "--slot", "r-1=haiku", "--exec", "true")
        with guarded.running("dispatcher", "dispatch", *serves) as said:
            guarded.send("producer", TASK_PENDING, {"task_id": "t-ready", "pool": "ready"})
            assert json.loads(first(finished).value)["task_id"] == "t-ready"
            assert "Models are not looked up" in said.read_text()
        until(lambda: journal.exists() and '"success"' in journal.read_text(), "the outcome in the sink's file")

        def command(part: Part, *words: str, stdin: str = "") -> str:
            done = slotwise(*words, stdin=stdin, env=guarded.env(part))
            assert done.returncode == 0, done.stderr
            return done.stdout + done.stderr

        assert "h-1" in command("reader", "slots", "--pool", pool)
        seen = json.loads(command("reader", "check", "--no-audit", "--json"))
        assert [one["partitions"] for one in seen["parts"]["workers"]] == [[0, 1]]
        assert "in force" in command("operator", "drain", "haiku", "--pool", pool)
        sent = command("producer", "send", "task", "--now", stdin=json.dumps({"task_id": "t-2", "pool": pool}))
        assert "1 of 1 lines sent" in sent
        assert "Names are not looked up" in sent
        body = json.dumps([{"task_id": "t-3", "pool": pool}]).encode()
        request = urllib.request.Request(f"{web}/tasks", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:
            assert answer.status in (200, 202)
        until(lambda: '"t-3"' in journal.read_text(), "the task of the HTTP API in the sink's file")


def first(consumer: Any) -> Any:
    """Return the first record that comes."""
    found: list[Any] = []

    def arrived() -> bool:
        found.extend(record for run in consumer.poll(timeout_ms=500).values() for record in run)
        return bool(found)

    until(arrived, "a record")
    return found[0]


@pytest.mark.parametrize("part", PARTS)
def test_the_broker_allows_a_part_exactly_its_rights(guarded: Guarded, part: Part) -> None:
    """Of every topic, what the broker lets the part do is what the table says; the rest of the matrix is refused."""
    known = names(guarded.settings(part))
    here = (*(topic.name for topic in topics(guarded.settings(part))), known.replay, known.replayed)
    wanted = {name: set[str]() for name in here}
    for right in rights(part, known):
        if right.resource == "topic":
            wanted[right.name] |= set(right.operations)
            if {"READ", "WRITE", "DELETE"}.intersection(right.operations):
                wanted[right.name].add("DESCRIBE")  # Kafka lets who may do one of these see the topic
    admin = KafkaAdminClient(**client_options(guarded.settings(part)))
    try:
        found = {one["name"]: set(one["authorized_operations"] or ()) for one in admin.describe_topics(list(wanted))}
    finally:
        admin.close()
    assert found == wanted


def test_a_replay_sends_and_decides_with_its_rights_alone(guarded: Guarded) -> None:
    """Its topics are made, work is sent, and another process of it decides about that; nothing else is written to."""
    sample = ("--sample", "50", "--json")
    words = [sys.executable, "-m", "streams.cli", "replay", "--listen", *sample]
    with subprocess.Popen(
        words, env=environment(guarded.env("replay")), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as listening:
        try:
            assert listening.stderr is not None
            assert "Listening to" in listening.stderr.readline()
            sent = slotwise("replay", "--send", "--speed", "1e9", *sample, env=guarded.env("replay"))
            assert sent.returncode == 0, sent.stderr
            answer, said = listening.communicate(timeout=DEADLINE_S)
        finally:
            listening.kill()
    assert listening.returncode == 0, said
    assert json.loads(answer)["records"] == json.loads(sent.stdout)["records"] > 50
    recorded = slotwise("replay", "--send", "--json", env=guarded.env("replay"))
    assert recorded.returncode == 0, recorded.stderr


@pytest.mark.parametrize(
    ("part", "topic"),
    [
        ("producer", FLEET_CONTROL),
        ("producer", DECISION_AUDIT),
        ("producer", SLOT_FREED),
        ("dispatcher", FLEET_CONTROL),
        ("dispatcher", TASK_PENDING),
        ("sink", DECISION_AUDIT),
        ("reader", TASK_PENDING),
        ("reader", FLEET_CONTROL),
        ("reader", DECISION_AUDIT),
        ("shadow", DECISION_AUDIT),
        ("shadow", TASK_ROUTED),
        ("replay", TASK_PENDING),
        ("replay", DECISION_AUDIT),
        ("replay", TASK_ROUTED),
        ("worker", ROUTING_REPLAY),
        ("operator", ROUTING_REPLAY),
        ("web", DECISION_AUDIT),
        ("operator", DECISION_AUDIT),
    ],
)
def test_what_a_part_may_not_write_is_refused(guarded: Guarded, part: Part, topic: str) -> None:
    """A producer gives no orders and writes no decisions, a dispatcher gives no orders, a reader writes nothing."""
    with guarded.producer(part) as producer, pytest.raises(TopicAuthorizationFailedError):
        producer.send(guarded.topic(topic), key=b"main", value=b"{}").get(30)


async def test_a_producer_that_cancels_is_told_that_this_is_an_order(guarded: Guarded) -> None:
    """The client says which right is missing; tasks it may send."""
    common = guarded.env("producer")
    given = {name.removeprefix("SLOTWISE_").lower(): value for name, value in common.items()}
    async with AsyncClient(**given) as client:
        task = await client.submit(pool="of-a-producer")
        with pytest.raises(AccessDenied, match=f"does not let this process write to {guarded.topic(FLEET_CONTROL)}"):
            await client.cancel(task)


def test_a_producer_does_not_read_what_is_routed(guarded: Guarded) -> None:
    """Neither the topic, nor another one with a group that is not its own."""
    own = f"{guarded.group}-producer-ci"
    assert refused(guarded, TASK_ROUTED, own) == KafkaError.TOPIC_AUTHORIZATION_FAILED
    assert refused(guarded, TASK_FINISHED, guarded.group) == KafkaError.GROUP_AUTHORIZATION_FAILED


def refused(guarded: Guarded, topic: str, group: str) -> int:
    """Return with which error the broker refuses that a producer reads."""
    settings = guarded.settings("producer")
    consumer = Consumer(
        {
            "bootstrap.servers": settings.broker,
            "security.protocol": settings.kafka_security,
            "ssl.ca.location": settings.kafka_ca_file,
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.username": settings.kafka_user,
            "sasl.password": PASSWORD,
            "group.id": group,
        }
    )
    try:
        consumer.subscribe([guarded.topic(topic)])
        answer = consumer.poll(ATTEMPT_MS / 1000)
        assert answer is not None
        error = answer.error()
        assert error is not None
        return error.code()
    finally:
        consumer.close()


@pytest.mark.parametrize(
    ("part", "words", "want"),
    [
        ("producer", ("drain", "haiku"), "let User:slotwise-producer READ and DESCRIBE_CONFIGS topic {pending}"),
        ("dispatcher", ("drain", "haiku"), "which the operator needs"),
        ("reader", ("drain", "haiku"), "User:slotwise-reader WRITE topic {pending}, WRITE topic {freed}"),
        ("reader", ("send", "task", "--now"), "User:slotwise-reader WRITE topic {pending}, which the producer needs"),
        ("reader", ("worker",), "`slotwise topics acls worker --script` prints the commands"),
        ("producer", ("sink", "--to", "-"), "READ and DESCRIBE_CONFIGS topic {journal}, READ groups that begin with"),
        ("reader", ("web",), "User:slotwise-reader WRITE topic {pending}, WRITE topic {freed}, WRITE topic {fleet}"),
        ("reader", ("topics", "create"), "which the administrator needs"),
        (
            "reader",
            ("replay", "--send", "--sample", "50"),
            "topic {replay}, READ and WRITE and CREATE topic {replayed}",
        ),
    ],
    ids=lambda given: given if isinstance(given, str) else None,
)
def test_a_refusal_is_one_sentence(guarded: Guarded, part: Part, words: tuple[str, ...], want: str) -> None:
    """It names who, what of which topic or group, and how it is granted; the exit code is that of a mistake."""
    done = slotwise(*words, stdin='{"task_id":"t-9","pool":"main"}', env=guarded.env(part))
    said = " ".join(done.stderr.split())
    want = want.format(
        fleet=guarded.topic(FLEET_CONTROL),
        pending=guarded.topic(TASK_PENDING),
        freed=guarded.topic(SLOT_FREED),
        journal=guarded.topic(DECISION_AUDIT),
        replay=guarded.topic(ROUTING_REPLAY),
        replayed=guarded.topic(DECISION_REPLAY),
    )
    assert done.returncode == MISTAKE, said
    assert want in said
    assert said.count("The broker at") == 1
    assert "Traceback" not in said
    assert done.stdout == ""


def test_who_may_look_may_not_change(guarded: Guarded) -> None:
    """A reader compares the topics and changes none; the administrator brings them in line with other settings."""
    settings = guarded.settings("reader")
    assert {topic.status for topic in find_topics(settings)} == {"as wanted"}
    check_topics(settings)
    with pytest.raises(AccessDenied, match="User:slotwise-reader"):
        renew_topics(settings)
    shorter = replace(settings, retention_hours=24.0)
    found = {topic.wanted.name: topic for topic in find_topics(shorter)}
    assert found[guarded.topic(TASK_PENDING)].status == "retention.ms is 604800000"
    differences = [one for topic in found.values() for one in topic.differences]
    with pytest.raises(AccessDenied, match="ALTER_CONFIGS topic"):
        alter_topics(shorter, differences)
    alter_topics(replace(guarded.settings("administrator"), retention_hours=24.0), differences)
    until(lambda: {topic.status for topic in find_topics(shorter)} == {"as wanted"}, "the shorter retention")
