"""Who may do what on the broker: the parts of an installation and the rights that each needs there, in one table.

`slotwise topics acls` and docs/security.md show it, and each start compares the rights of its part with what the broker
says that its user has. `READ` and `WRITE` of a topic bring `DESCRIBE` with them, as Kafka has it.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from msgspec import Struct

from schemas.json_schema import DECISION_REPLAY, ROUTING_REPLAY
from schemas.vocabulary import (
    DECISION_AUDIT,
    DECISION_DIFFERENCE,
    INPUT_TOPICS,
    OUTPUT_TOPICS,
    SLOT_FREED,
    TASK_AWAIT_SLOT,
    TASK_CANCELLED,
    TASK_FINISHED,
    TASK_PENDING,
    TASK_ROUTED,
)
from streams.topic_names import CHECKPOINT, SHADOW_CHECKPOINT, TABLES, Names

Part = Literal[
    "producer", "dispatcher", "worker", "sink", "shadow", "replay", "web", "operator", "reader", "administrator"
]
Operation = Literal["READ", "WRITE", "CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"]

#: What each part is, as the page and the command say it.
PARTS: Final[dict[Part, str]] = {
    "producer": "sends tasks, and follows what becomes of them; to cancel one is an order, which is an operator's",
    "dispatcher": "announces and frees slots, and does what is routed to them",
    "worker": "decides; inputs too, for its ticks and for what is forwarded to its partition",
    "sink": "copies the journal to Postgres or to a file",
    "shadow": "decides by other rules beside the workers, and says where it differs",
    "replay": "`replay --send`, `--listen`: sends recorded inputs to topics of their own, and decides there",
    "web": "serves the HTTP API and the pages, for everyone with a token",
    "operator": "gives orders and treats dead letters; reads what a reader reads",
    "reader": "looks: `check`, `lag`, `tasks`, `slots`, `wait`, `recommend`, `audit`, `dlq list`, `topics check`",
    "administrator": "makes, changes and deletes topics, and skips foreign records of the journal",
}
_DEAD: Final = tuple(f"{topic}.dlq" for topic in INPUT_TOPICS)
_STATE: Final = (DECISION_AUDIT, CHECKPOINT)
_USED: Final = (*INPUT_TOPICS, *_DEAD, *OUTPUT_TOPICS, *_STATE)
#: What shadows write.
_SHADOW: Final = (DECISION_DIFFERENCE, SHADOW_CHECKPOINT)
_ALL: Final = (*_USED, *_SHADOW, *TABLES)
#: What is sent to a replay, and the steps that it makes of it; made at the first one, and no part of the installation.
_REPLAY: Final = (ROUTING_REPLAY, DECISION_REPLAY)


class Right(Struct, frozen=True):
    """What a part does with one topic, group, or all groups whose names begin so."""

    resource: Literal["topic", "group"]
    name: str
    operations: tuple[Operation, ...]
    prefixed: bool = False

    @property
    def described(self) -> str:
        """The resource, as a sentence names it."""
        return f"{self.resource}{'s that begin with' if self.prefixed else ''} {self.name}"


class Grant(Struct, frozen=True):
    """A right of a principal, as Kafka's tools and other programs take it."""

    part: Part
    principal: str
    right: Right


class _Row(Struct, frozen=True):
    """Topics by their names on the wire, changelogs by their tables; groups by what follows the installation's own."""

    operations: tuple[Operation, ...]
    topics: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    prefixed: bool = False


_READER: Final = (
    _Row(("READ", "DESCRIBE_CONFIGS"), _USED),
    _Row(("DESCRIBE", "DESCRIBE_CONFIGS"), (*_SHADOW, *TABLES)),
    # How far each follower is stands in its group.
    _Row(("DESCRIBE",), groups=("", "-publisher")),
    _Row(("DESCRIBE",), groups=("-sink-",), prefixed=True),
)
_ROWS: Final[dict[Part, tuple[_Row, ...]]] = {
    "producer": (
        _Row(("WRITE",), (TASK_PENDING,)),
        _Row(("READ",), (TASK_AWAIT_SLOT, TASK_FINISHED)),
        _Row(("READ",), groups=("-producer",), prefixed=True),
    ),
    "dispatcher": (
        _Row(("WRITE",), (SLOT_FREED,)),
        _Row(("READ",), (TASK_ROUTED, TASK_CANCELLED)),
        _Row(("READ",), groups=("-dispatcher",), prefixed=True),
    ),
    "worker": (
        _Row(("READ", "WRITE"), INPUT_TOPICS),
        _Row(("WRITE",), (*_DEAD, *OUTPUT_TOPICS)),
        _Row(("READ", "WRITE", "DESCRIBE_CONFIGS"), _STATE),
        _Row(("READ", "WRITE"), TABLES),
        _Row(("READ",), groups=("", "-publisher")),
    ),
    "sink": (
        _Row(("READ", "DESCRIBE_CONFIGS"), (DECISION_AUDIT,)),
        _Row(("READ",), groups=("-sink-",), prefixed=True),
    ),
    "shadow": (
        _Row(("READ",), INPUT_TOPICS),
        _Row(("READ", "DESCRIBE_CONFIGS"), _STATE),
        _Row(("WRITE",), (DECISION_DIFFERENCE,)),
        _Row(("READ", "WRITE", "DESCRIBE_CONFIGS"), (SHADOW_CHECKPOINT,)),
        _Row(("READ",), groups=("-shadow-",), prefixed=True),
    ),
    "replay": (
        _Row(("READ", "DESCRIBE_CONFIGS"), _STATE),
        _Row(("READ", "WRITE", "CREATE"), _REPLAY),
    ),
    "web": (
        # Dead letters too: operators have them sent again, and marked, on their page.
        _Row(("READ", "WRITE"), (*INPUT_TOPICS, *_DEAD)),
        _Row(("READ", "DESCRIBE_CONFIGS"), _STATE),
        *_READER[2:],
    ),
    "operator": (
        _Row(("READ", "WRITE", "DESCRIBE_CONFIGS"), (*INPUT_TOPICS, *_DEAD)),
        _Row(("READ", "DESCRIBE_CONFIGS"), (*OUTPUT_TOPICS, *_STATE)),
        *_READER[1:],
    ),
    "reader": _READER,
    "administrator": (
        _Row(("READ", "WRITE", "CREATE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"), (DECISION_AUDIT,)),
        _Row(("READ", "CREATE", "DELETE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"), (CHECKPOINT,)),
        _Row(
            ("CREATE", "DELETE", "DESCRIBE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"),
            tuple(topic for topic in _ALL if topic not in _STATE),
        ),
        _Row(("CREATE", "DELETE", "DESCRIBE"), _REPLAY),
        _Row(("DESCRIBE",), groups=("",)),
    ),
}


#: Of workers that route nothing.
_DRY_RUN: Final = (
    _Row(("READ",), INPUT_TOPICS),
    _Row(("READ", "WRITE", "DESCRIBE_CONFIGS"), _STATE),
    _Row(("READ", "WRITE"), TABLES),
    _Row(("READ",), groups=("", "-publisher")),
)


def rights(part: Part, names: Names) -> tuple[Right, ...]:
    """Return the rights that a part needs in an installation; those of topics come first."""
    return tuple(
        right
        for row in (_DRY_RUN if names.dry_run and part == "worker" else _ROWS[part])
        for right in (
            *(Right("topic", _on_broker(topic, names), row.operations) for topic in row.topics),
            *(Right("group", names.group + suffix, row.operations, row.prefixed) for suffix in row.groups),
        )
    )


def _on_broker(topic: str, names: Names) -> str:
    match topic:
        case _ if topic in TABLES:
            return names.changelog(topic)
        case _ if topic == DECISION_AUDIT:
            return names.journal
        case _ if topic == CHECKPOINT:
            return names.checkpoint
    return names.of(topic)


def grants(parts: Iterable[Part], names: Names, principal: str) -> Iterator[Grant]:
    """Yield the rights of parts; `principal` is a name with `{part}` in it, such as `User:slotwise-{part}`."""
    for part in parts:
        name = principal.replace("{part}", part)
        yield from (Grant(part, name, right) for right in rights(part, names))


def script(found: Iterable[Grant], *, broker: str) -> Iterator[str]:
    """Yield lines of a shell that give these rights with Kafka's own tool: one for all that share their operations."""
    together: dict[tuple[str, str, bool, tuple[Operation, ...]], list[str]] = {}
    for one in found:
        right = one.right
        together.setdefault((one.principal, right.resource, right.prefixed, right.operations), []).append(right.name)
    for (principal, resource, prefixed, operations), names in together.items():
        words = ["kafka-acls.sh", "--bootstrap-server", broker, "--command-config", "admin.properties", "--add"]
        words += ["--allow-principal", principal]
        for operation in operations:
            words += ["--operation", operation.title().replace("_", "")]
        if prefixed:
            words += ["--resource-pattern-type", "prefixed"]
        for name in names:
            words += [f"--{resource}", name]
        yield shlex.join(words)
