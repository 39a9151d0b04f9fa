"""What the broker lets this process do, as the broker itself says it, and the sentence about what it does not.

Asked at a start: the clients' own words about it come late, name no right, or are tried again without end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from kafka.admin import KafkaAdminClient
from kafka.errors import (
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
)
from msgspec import Struct
from msgspec.structs import replace

from streams.access.rights import Part, Right
from streams.access.security import PLAIN
from streams.errors import MISTAKE, SlotwiseError
from streams.settings import Settings
from streams.text import printable

UNKNOWN_TOPIC: Final = UnknownTopicOrPartitionError.errno
DENIED_TOPIC: Final = TopicAuthorizationFailedError.errno
#: Rights that one sentence names.
SHOWN_MAX: Final = 3


class AccessDenied(SlotwiseError):
    """The broker does not let this process do what its part does; the message says what to have granted."""

    exit_code = MISTAKE


class Described(Struct, frozen=True):
    """What the broker says of a topic."""

    #: 0: there is none.
    partitions: int
    replication: int
    #: What this process may do with it; None: this broker does not say.
    operations: frozenset[str] | None


def described(admin: KafkaAdminClient, wanted: Iterable[str]) -> dict[str, Described]:
    """Return what the broker says of topics, by name."""
    names = list(wanted)
    answers = {topic["name"]: topic for topic in admin.describe_topics(names)}
    found = {}
    for name in names:
        topic: dict[str, Any] = answers.get(name, {"partitions": [], "error_code": UNKNOWN_TOPIC})
        code, partitions, may = topic["error_code"], topic["partitions"], topic.get("authorized_operations")
        found[name] = Described(
            partitions=0 if code == UNKNOWN_TOPIC else len(partitions),
            replication=len(partitions[0]["replica_nodes"]) if partitions else 0,
            operations=frozenset() if code == DENIED_TOPIC else None if may is None else frozenset(may),
        )
    return found


def lacking(
    admin: KafkaAdminClient, settings: Settings, needed: Iterable[Right], found: Mapping[str, Described]
) -> list[Right]:
    """Return what of these rights the broker does not give to this process, as far as it says so."""
    missing = []
    for right in needed:
        if right.resource == "group":
            # Without a login no group is likely to be guarded, and each question takes two requests.
            denied = settings.kafka_security != PLAIN and _is_denied(admin, right.name)
            operations = right.operations if denied else ()
        else:
            may = found[right.name].operations
            operations = () if may is None else tuple(one for one in right.operations if one not in may)
        if operations:
            missing.append(replace(right, operations=operations))
    return missing


def require_rights(
    admin: KafkaAdminClient, settings: Settings, part: Part, needed: Iterable[Right], found: Mapping[str, Described]
) -> None:
    """Check that this process may do what a part of slotwise does.

    Raises:
        AccessDenied: it may not; one sentence: who, what, and how it is granted.
    """
    missing = lacking(admin, settings, needed, found)
    if missing:
        raise AccessDenied(sentence(settings, part, missing))


def sentence(settings: Settings, part: Part, missing: Sequence[Right]) -> str:
    """Say what the broker does not let this process do, and how it is granted."""
    wanted = [f"{' and '.join(right.operations)} {right.described}" for right in missing[:SHOWN_MAX]]
    more = len(missing) - len(wanted)
    said = ", ".join(wanted) + (f", and {more} more" if more else "")
    words = f"{part} --dry-run" if settings.dry_run else part
    return (
        f"The broker at {settings.broker} does not let {_who(settings)} {said}, which the {part} needs: have it "
        f"granted; `slotwise topics acls {words} --script` prints the commands."
    )


def _who(settings: Settings) -> str:
    if settings.kafka_user:
        return f"User:{printable(settings.kafka_user)}"
    if settings.kafka_cert_file:
        return f"the owner of {settings.kafka_cert_file}"
    return "User:ANONYMOUS (no login)"


def _is_denied(admin: KafkaAdminClient, group: str) -> bool:
    try:
        admin.describe_groups([group])
    except GroupAuthorizationFailedError:
        return True
    except (KafkaError, ValueError):
        return False  # it has no coordinator yet
    return False
