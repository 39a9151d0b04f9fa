"""Every topic of slotwise: its name under the installation's prefix, its settings, and a check before the start.

No topic is created implicitly. A partition count that differs from the setting would split a pool's history
between two writers, so it stops the start; so does a journal that the broker may compact.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any, Final

from aiokafka.partitioner import murmur2
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError, UnknownTopicOrPartitionError
from msgspec import Struct

from schemas.vocabulary import (
    DECISION_AUDIT,
    FLEET_CONTROL,
    INPUT_TOPICS,
    OUTPUT_TOPICS,
    SLOT_FREED,
    TASK_PENDING,
)
from streams.access.refusal import require_access, require_welcome
from streams.access.security import PLAIN, client_options
from streams.errors import MISTAKE, UNREACHABLE, SlotwiseError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from streams.settings import Settings

CHECKPOINT: Final = "slotwise.checkpoint"
#: Names of the Faust tables; their changelogs are topics too.
TABLES: Final = ("utilisation", "ev_percentiles")

#: Around the journal's value: key, headers and framing of the record.
FRAME_BYTES: Final = 65_536
CONNECT_TIMEOUT_MS: Final = 5_000
HOUR_MS: Final = 3_600_000
#: The journal is kept so many times longer than inputs: recovery must not find inputs without their steps.
JOURNAL_LIVES_LONGER: Final = 2
#: Longest wait for the broker to delete topics.
RENEW_S_MAX: Final = 30.0
DEAD_LETTER_BYTES_MAX: Final = 2_097_152
UNKNOWN_TOPIC: Final = UnknownTopicOrPartitionError.errno


class TopicsError(SlotwiseError):
    """The broker does not have the topics that slotwise needs; the message says what to do."""

    exit_code = MISTAKE


class BrokerUnreachable(TopicsError):
    """The broker does not answer; the message says where it was looked for."""

    exit_code = UNREACHABLE


class Names(Struct, frozen=True):
    """Topic names under an installation's prefix."""

    prefix: str
    group: str

    def of(self, topic: str) -> str:
        """Name on the broker of a topic of the wire contract."""
        return self.prefix + topic

    def dead(self, topic: str) -> str:
        """Name on the broker of a topic's dead letters."""
        return f"{self.prefix}{topic}.dlq"

    @property
    def inputs(self) -> tuple[str, ...]:
        """Input topics, in the order by which a journal record names them."""
        return tuple(map(self.of, INPUT_TOPICS))

    @property
    def journal(self) -> str:
        """The journal."""
        return self.of(DECISION_AUDIT)

    @property
    def checkpoint(self) -> str:
        """Checkpoints: snapshots of the state."""
        return self.of(CHECKPOINT)

    @property
    def changelogs(self) -> tuple[str, ...]:
        """Changelogs of the Faust tables, named by Faust."""
        return tuple(f"{self.group}-{table}-changelog" for table in TABLES)


def name_in_audit(settings: Settings, topic: str = DECISION_AUDIT) -> str:
    """Return the name under which the audit keeps a journal: its topic, after the name of its life where it has one."""
    return ":".join(filter(None, (settings.journal, settings.topic_prefix + topic)))


class TopicSpec(Struct, frozen=True):
    """One topic as it is created."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


def home_of(partitions: int) -> Callable[[bytes], int]:
    """Return the partition of a key, by Kafka's default partitioner."""
    return lambda key: (murmur2(key) & 0x7FFFFFFF) % partitions


def names(settings: Settings) -> Names:
    """Return the names of this installation's topics."""
    return Names(prefix=settings.topic_prefix, group=settings.group)


def topics(settings: Settings) -> tuple[TopicSpec, ...]:
    """Return all topics of an installation; all keyed ones have the same number of partitions."""
    retention_ms = int(settings.retention_hours * HOUR_MS)
    keep = {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}
    keep_longer = {"cleanup.policy": "delete", "retention.ms": str(JOURNAL_LIVES_LONGER * retention_ms)}
    # The broker's clock is one clock for all producers. A broker without LogAppendTime keeps the producer's.
    broker_time = {"message.timestamp.type": "LogAppendTime"}
    # Producers may compress; the broker stores a form that every worker can read without more libraries.
    readable = {"compression.type": "uncompressed"}
    compact = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"}
    step_bytes = {"max.message.bytes": str(settings.step_bytes_max + FRAME_BYTES)}
    known = names(settings)

    def rows() -> Iterator[tuple[str, dict[str, str]]]:
        for topic in (TASK_PENDING, SLOT_FREED, FLEET_CONTROL):
            yield known.of(topic), keep | broker_time | readable
            yield known.dead(topic), keep_longer | {"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)}
        for topic in OUTPUT_TOPICS:
            yield known.of(topic), keep
        yield known.journal, keep_longer | step_bytes
        yield known.checkpoint, compact
        for topic in known.changelogs:
            yield topic, compact

    # One replica may be away without stopping the writers, no more.
    safe = {"min.insync.replicas": str(max(1, settings.replication - 1))}
    return tuple(
        TopicSpec(name=name, partitions=settings.partitions, replication=settings.replication, configs=configs | safe)
        for name, configs in rows()
    )


def create_topics(settings: Settings) -> list[str]:
    """Create what is missing and return the names; what exists is checked, not changed.

    Raises:
        TopicsError: no broker, or a topic that cannot be used.
    """
    wanted = {topic.name: topic for topic in topics(settings)}
    with _admin(settings) as admin:
        missing = [name for name, partitions in _partitions(admin, list(wanted)).items() if not partitions]
        if missing:
            reply = admin.create_topics(
                {
                    name: {
                        "num_partitions": wanted[name].partitions,
                        "replication_factor": wanted[name].replication,
                        "configs": wanted[name].configs,
                    }
                    for name in missing
                },
                raise_errors=False,
            )
            for answer in reply["topics"]:
                if answer["error_code"] not in (0, TopicAlreadyExistsError.errno):
                    raise TopicsError(
                        f"The broker at {settings.broker} refused to create {answer['name']}: "
                        f"{answer['error_message'] or 'error ' + str(answer['error_code'])}."
                    )
            admin.wait_for_topics(missing)
        _check(admin, settings)
    return missing


def renew_topics(settings: Settings) -> list[str]:
    """Delete all topics of the installation and create them again: what they hold is given up. Return their names.

    Raises:
        TopicsError: no broker, a worker is still in the group, or the broker refuses.
    """
    known = [topic.name for topic in topics(settings)]
    with _admin(settings) as admin:
        (group,) = admin.describe_groups([settings.group]).values()
        if group.get("members"):
            raise TopicsError(
                f"{len(group['members'])} workers are in the group {settings.group}: stop all of them, and wait until "
                f"their session is over ({settings.session_timeout_s:g} s)."
            )
        there = [name for name, partitions in _partitions(admin, known).items() if partitions]
        if there:
            admin.delete_topics(there)
            deadline_s = time.monotonic() + RENEW_S_MAX
            while any(_partitions(admin, there).values()):
                if time.monotonic() > deadline_s:
                    raise TopicsError(
                        f"The broker at {settings.broker} has not deleted the topics within {RENEW_S_MAX:.0f} s: give "
                        "the command again, or delete them with the broker's own tools."
                    )
                time.sleep(0.1)
    return create_topics(settings)


def check_topics(settings: Settings) -> None:
    """Check that all topics are there as slotwise needs them.

    Raises:
        TopicsError: one sentence: what is wrong and what to do.
    """
    with _admin(settings) as admin:
        _check(admin, settings)


def _check(admin: KafkaAdminClient, settings: Settings) -> None:
    wanted = topics(settings)
    found = _partitions(admin, [topic.name for topic in wanted])
    missing = [name for name, partitions in found.items() if not partitions]
    if missing:
        raise TopicsError(
            f"The broker at {settings.broker} has no topic {', '.join(missing)}: "
            "create them with `slotwise topics create`."
        )
    for topic in wanted:
        if found[topic.name] != topic.partitions:
            raise TopicsError(
                f"Topic {topic.name} has {found[topic.name]} partitions and slotwise is set to {topic.partitions}: "
                f"set SLOTWISE_PARTITIONS={found[topic.name]}, or migrate to new topics after a drain "
                "(adding partitions moves pools away from their history)."
            )
    _check_cleaning(admin, settings)


def _check_cleaning(admin: KafkaAdminClient, settings: Settings) -> None:
    known = names(settings)
    for name, must_compact in ((known.journal, False), (known.checkpoint, True)):
        configs = _configs(admin, name)
        policy = configs.get("cleanup.policy", "compact" if must_compact else "delete")
        if ("compact" in policy) != must_compact:
            raise TopicsError(
                f"Topic {name} has cleanup.policy={policy}, which would lose "
                f"{'checkpoints' if must_compact else 'steps of the journal'}: "
                f"set it to {'compact' if must_compact else 'delete'}."
            )
        if not must_compact and int(configs.get("max.message.bytes", 2**31)) < settings.step_bytes_max:
            raise TopicsError(
                f"Topic {name} takes records of {configs['max.message.bytes']} bytes and a step may have "
                f"{settings.step_bytes_max}: raise its max.message.bytes or lower SLOTWISE_STEP_BYTES_MAX."
            )


def _configs(admin: KafkaAdminClient, topic: str) -> dict[str, str]:
    described = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    rows: dict[str, dict[str, Any]] = described["topic"][topic]
    return {key: row["value"] for key, row in rows.items() if row.get("value") is not None}


def _partitions(admin: KafkaAdminClient, wanted: list[str]) -> dict[str, int]:
    """Partition counts by name; 0 where there is no such topic."""
    described = {topic["name"]: topic for topic in admin.describe_topics(wanted)}
    return {
        name: len(described[name]["partitions"])
        if name in described and described[name]["error_code"] != UNKNOWN_TOPIC
        else 0
        for name in wanted
    }


@contextlib.contextmanager
def _admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    require_access(settings)
    try:
        admin = KafkaAdminClient(
            **client_options(settings),
            client_id=f"{settings.group}-admin",
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
        )
    except (KafkaError, OSError, ValueError) as error:
        if settings.kafka_security == PLAIN:
            # It may be there, and want more.
            require_welcome(settings)
        raise BrokerUnreachable(
            f"No broker answers at {settings.broker}: start it, or set SLOTWISE_BROKER to where it listens ({error})."
        ) from error
    try:
        yield admin
    except KafkaError as error:
        raise BrokerUnreachable(f"The broker at {settings.broker} failed to answer about topics: {error}.") from error
    finally:
        admin.close()
