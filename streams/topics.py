"""Every topic of slotwise: its name under the installation's prefix, its settings, and a check before the start.

No topic is created implicitly. A partition count that differs from the setting would split a pool's history
between two writers, so it stops the start; so does a journal that the broker may compact.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from aiokafka.partitioner import murmur2
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from kafka.errors import KafkaError, TopicAlreadyExistsError
from msgspec import Struct

from schemas.vocabulary import (
    FLEET_CONTROL,
    OUTPUT_TOPICS,
    SLOT_FREED,
    TASK_PENDING,
)
from streams.access.granted import Described, described, lacking, require_rights
from streams.access.refusal import require_access, require_welcome
from streams.access.rights import Part, Right, rights
from streams.access.security import PLAIN, client_options
from streams.errors import MISTAKE, UNREACHABLE, SlotwiseError
from streams.topic_names import Names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from streams.settings import Settings

#: What follows the name of the installation's group in that of workers that route nothing.
DRY_RUN: Final = "-dry-run"
#: Around the journal's value: key, headers and framing of the record.
FRAME_BYTES: Final = 65_536
CONNECT_TIMEOUT_MS: Final = 5_000
HOUR_MS: Final = 3_600_000
#: The journal is kept so many times longer than inputs: recovery must not find inputs without their steps.
JOURNAL_LIVES_LONGER: Final = 2
#: Longest wait for the broker to delete topics.
RENEW_S_MAX: Final = 30.0
DEAD_LETTER_BYTES_MAX: Final = 2_097_152


class TopicsError(SlotwiseError):
    """The broker does not have the topics that slotwise needs; the message says what to do."""

    exit_code = MISTAKE


class BrokerUnreachable(TopicsError):
    """The broker does not answer; the message says where it was looked for."""

    exit_code = UNREACHABLE


def name_in_audit(settings: Settings, topic: str | None = None) -> str:
    """Return the name under which the audit keeps a journal: its topic, after the name of its life where it has one.

    Without a topic of the wire contract it is the installation's journal.
    """
    name = names(settings).journal if topic is None else settings.topic_prefix + topic
    return ":".join(filter(None, (settings.journal, name)))


class TopicSpec(Struct, frozen=True):
    """One topic as it is created."""

    name: str
    partitions: int
    replication: int
    configs: dict[str, str]


class Difference(Struct, frozen=True):
    """A setting of a topic that is not what slotwise's settings make it."""

    topic: str
    name: str
    found: str
    wanted: str


class FoundTopic(Struct, frozen=True):
    """A wanted topic, and what the broker has under its name; 0 partitions: nothing."""

    wanted: TopicSpec
    partitions: int
    replication: int
    differences: tuple[Difference, ...]

    @property
    def status(self) -> str:
        """What is to be said of it, in a few words."""
        if not self.partitions:
            return "missing"
        said = [f"{one.name} is {one.found}" for one in self.differences]
        if self.partitions != self.wanted.partitions:
            said.insert(0, f"{self.partitions} partitions")
        return ", ".join(said) or "as wanted"


def home_of(partitions: int) -> Callable[[bytes], int]:
    """Return the partition of a key, by Kafka's default partitioner."""
    return lambda key: (murmur2(key) & 0x7FFFFFFF) % partitions


def names(settings: Settings) -> Names:
    """Return the names of this installation's topics."""
    group = settings.group + DRY_RUN if settings.dry_run else settings.group
    return Names(prefix=settings.topic_prefix, group=group, dry_run=settings.dry_run)


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
            if known.dry_run:
                continue
            yield known.dead(topic), keep_longer | {"max.message.bytes": str(DEAD_LETTER_BYTES_MAX)}
        for topic in OUTPUT_TOPICS if not known.dry_run else ():
            yield known.of(topic), keep
        yield known.journal, keep_longer | step_bytes
        yield known.checkpoint, compact
        if not known.dry_run:
            yield known.differences, keep
            yield known.shadow_checkpoint, compact
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
        AccessDenied: the broker does not let this process do it.
    """
    wanted = {topic.name: topic for topic in topics(settings)}
    with open_admin(settings) as admin:
        found = described(admin, wanted)
        _require_administrator(admin, settings, found)
        missing = [name for name, one in found.items() if not one.partitions]
        _make(admin, settings, [wanted[name] for name in missing])
        _check(admin, settings, wanted.values(), described(admin, wanted))
    return missing


def create_replay_topics(settings: Settings) -> list[str]:
    """Create the topics of a replay where they are missing; return the names. They are no part of the installation's.

    Raises:
        TopicsError: no broker, or they have another number of partitions.
        AccessDenied: the broker does not let this process do it.
    """
    known, retention_ms = names(settings), int(settings.retention_hours * HOUR_MS)
    configs = {
        "cleanup.policy": "delete",
        "retention.ms": str(retention_ms),
        "max.message.bytes": str(settings.step_bytes_max + FRAME_BYTES),
    }
    wanted = [
        TopicSpec(name=name, partitions=settings.partitions, replication=settings.replication, configs=configs)
        for name in (known.replay, known.replayed)
    ]
    with open_admin(settings) as admin:
        found = described(admin, [one.name for one in wanted])
        require_rights(admin, settings, "replay", [one for one in rights("replay", known) if one.name in found], found)
        missing = [one for one in wanted if not found[one.name].partitions]
        _make(admin, settings, missing)
        for name, one in found.items():
            if one.partitions not in (0, settings.partitions):
                raise TopicsError(
                    f"{name} has {one.partitions} partitions, and the installation {settings.partitions}: delete it, "
                    "and it is made again."
                )
    return [one.name for one in missing]


def _make(admin: KafkaAdminClient, settings: Settings, missing: Sequence[TopicSpec]) -> None:
    """Create topics, and wait until they are there."""
    if not missing:
        return
    reply = admin.create_topics(
        {
            one.name: {
                "num_partitions": one.partitions,
                "replication_factor": one.replication,
                "configs": one.configs,
            }
            for one in missing
        },
        raise_errors=False,
    )
    for answer in reply["topics"]:
        if answer["error_code"] not in (0, TopicAlreadyExistsError.errno):
            raise TopicsError(
                f"The broker at {settings.broker} refused to create {answer['name']}: "
                f"{answer['error_message'] or 'error ' + str(answer['error_code'])}."
            )
    admin.wait_for_topics([one.name for one in missing])


def renew_topics(settings: Settings) -> list[str]:
    """Delete all topics of the installation and create them again: what they hold is given up. Return their names.

    Raises:
        TopicsError: no broker, a worker is still in the group, or the broker refuses.
        AccessDenied: the broker does not let this process do it.
    """
    known = [topic.name for topic in topics(settings)]
    with open_admin(settings) as admin:
        found = described(admin, known)
        _require_administrator(admin, settings, found)
        (group,) = admin.describe_groups([names(settings).group]).values()
        if group.get("members"):
            raise TopicsError(
                f"{len(group['members'])} workers are in the group {names(settings).group}: stop all of them, and wait "
                f"until their session is over ({settings.session_timeout_s:g} s)."
            )
        there = [name for name, one in found.items() if one.partitions]
        if there:
            admin.delete_topics(there)
            deadline_s = time.monotonic() + RENEW_S_MAX
            while any(one.partitions for one in described(admin, there).values()):
                if time.monotonic() > deadline_s:
                    raise TopicsError(
                        f"The broker at {settings.broker} has not deleted the topics within {RENEW_S_MAX:.0f} s: give "
                        "the command again, or delete them with the broker's own tools."
                    )
                time.sleep(0.1)
    return create_topics(settings)


def alter_topics(settings: Settings, differences: Iterable[Difference]) -> None:
    """Give topics the settings that `find_topics` missed; nothing else of them changes.

    Raises:
        TopicsError: no broker, or it refuses.
        AccessDenied: the broker does not let this process do it.
    """
    wanted: dict[str, dict[str, str]] = {}
    for one in differences:
        wanted.setdefault(one.topic, {})[one.name] = one.wanted
    with open_admin(settings) as admin:
        _require_administrator(admin, settings, described(admin, wanted))
        admin.alter_configs(
            [ConfigResource(ConfigResourceType.TOPIC, topic, configs) for topic, configs in wanted.items()],
            raise_on_unknown=False,
        )


def find_topics(settings: Settings, part: Part = "reader") -> list[FoundTopic]:
    """Compare all topics of the installation with those of the broker, as far as the broker says how its topics are.

    Raises:
        TopicsError: no broker.
        AccessDenied: the broker does not let this process look.
    """
    wanted = topics(settings)
    with open_admin(settings) as admin:
        found = described(admin, [topic.name for topic in wanted])
        require_rights(admin, settings, part, rights(part, names(settings)), found)
        configs = _configs(admin, [topic.name for topic in wanted if found[topic.name].partitions])
    return [
        FoundTopic(
            wanted=topic,
            partitions=found[topic.name].partitions,
            replication=found[topic.name].replication,
            differences=tuple(
                Difference(topic.name, name, here[name], value)
                for name, value in topic.configs.items()
                if here.get(name, value) != value
            ),
        )
        for topic in wanted
        for here in [configs.get(topic.name, {})]
    ]


def check_topics(settings: Settings, *parts: Part, only: str | None = None) -> None:
    """Check that the topics which these parts use are there as slotwise needs them, and may be used by this process.

    Without parts it is a reader's; `only` is one topic of the wire contract, where no other is used.

    Raises:
        TopicsError: one sentence: what is wrong and what to do.
        AccessDenied: the broker does not let this process do what its part does.
    """
    known = names(settings)
    needed: dict[Part, list[Right]] = {
        part: [right for right in rights(part, known) if only is None or right.name == known.of(only)]
        for part in parts or ("reader",)
    }
    used = {right.name for those in needed.values() for right in those if right.resource == "topic"}
    wanted = [topic for topic in topics(settings) if topic.name in used]
    with open_admin(settings) as admin:
        found = described(admin, sorted(used))
        for part, those in needed.items():
            require_rights(admin, settings, part, those, found)
        _check(admin, settings, wanted, found)


def allows(settings: Settings, part: Part) -> bool:
    """Whether the broker lets this process do all that a part does; without a login it is not asked, and seems to.

    Raises:
        TopicsError: no broker.
    """
    if settings.kafka_security == PLAIN:
        return True
    needed = rights(part, names(settings))
    with open_admin(settings) as admin:
        found = described(admin, [right.name for right in needed if right.resource == "topic"])
        return not lacking(admin, settings, needed, found)


def _require_administrator(admin: KafkaAdminClient, settings: Settings, found: Mapping[str, Described]) -> None:
    needed = [
        right for right in rights("administrator", names(settings)) if right.resource == "group" or right.name in found
    ]
    require_rights(admin, settings, "administrator", needed, found)


def _check(
    admin: KafkaAdminClient, settings: Settings, wanted: Iterable[TopicSpec], found: Mapping[str, Described]
) -> None:
    missing = [topic.name for topic in wanted if not found[topic.name].partitions]
    if missing:
        raise TopicsError(
            f"The broker at {settings.broker} has no topic {', '.join(missing)}: "
            "create them with `slotwise topics create`."
        )
    for topic in wanted:
        partitions = found[topic.name].partitions
        if partitions != topic.partitions:
            raise TopicsError(
                f"Topic {topic.name} has {partitions} partitions and slotwise is set to {topic.partitions}: "
                f"set SLOTWISE_PARTITIONS={partitions}, or migrate to new topics after a drain "
                "(adding partitions moves pools away from their history)."
            )
    _check_cleaning(admin, settings, {topic.name for topic in wanted})


def _check_cleaning(admin: KafkaAdminClient, settings: Settings, used: set[str]) -> None:
    known = names(settings)
    compacts = {known.journal: False, known.checkpoint: True}
    for name, configs in _configs(admin, [name for name in compacts if name in used]).items():
        must_compact = compacts[name]
        policy = configs.get("cleanup.policy", "compact" if must_compact else "delete")
        if ("compact" in policy) != must_compact:
            raise TopicsError(
                f"Topic {name} has cleanup.policy={policy}, which would lose "
                f"{'checkpoints' if must_compact else 'steps of the journal'}: "
                f"set it to {'compact' if must_compact else 'delete'} (`slotwise topics alter` does)."
            )
        if not must_compact and int(configs.get("max.message.bytes", 2**31)) < settings.step_bytes_max:
            raise TopicsError(
                f"Topic {name} takes records of {configs['max.message.bytes']} bytes and a step may have "
                f"{settings.step_bytes_max}: raise its max.message.bytes (`slotwise topics alter` does) or lower "
                "SLOTWISE_STEP_BYTES_MAX."
            )


def _configs(admin: KafkaAdminClient, wanted: list[str]) -> dict[str, dict[str, str]]:
    """Settings of topics by name, as far as the broker says them."""
    if not wanted:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in wanted]
    described = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: {key: row["value"] for key, row in described[name].items() if row.get("value") is not None}
        for name in wanted
    }


@contextlib.contextmanager
def open_admin(settings: Settings) -> Iterator[KafkaAdminClient]:
    """Give an admin client while inside; an error of the broker inside ends as a sentence.

    Raises:
        BrokerUnreachable: it does not answer, or not as it should.
        BrokerRefused, SettingsError: it does not take us.
    """
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
