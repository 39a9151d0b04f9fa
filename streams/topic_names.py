"""How the topics of an installation are named on its broker."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from schemas.json_schema import DECISION_REPLAY, DECISION_SHADOW, ROUTING_REPLAY
from schemas.vocabulary import DECISION_AUDIT, DECISION_DIFFERENCE, INPUT_TOPICS

CHECKPOINT: Final = "slotwise.checkpoint"
#: Checkpoints of shadows; the keys of each begin with its name.
SHADOW_CHECKPOINT: Final = "slotwise.shadow"
#: Names of the Faust tables; their changelogs are topics too.
TABLES: Final = ("utilisation", "ev_percentiles")


class Names(Struct, frozen=True):
    """Topic names under an installation's prefix."""

    prefix: str
    group: str
    #: Of workers that route nothing: journal and checkpoints are others.
    dry_run: bool = False

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
        return self.of(DECISION_SHADOW if self.dry_run else DECISION_AUDIT)

    @property
    def checkpoint(self) -> str:
        """Checkpoints: snapshots of the state."""
        return self.of(SHADOW_CHECKPOINT if self.dry_run else CHECKPOINT)

    @property
    def differences(self) -> str:
        """Where shadows say what differs."""
        return self.of(DECISION_DIFFERENCE)

    @property
    def shadow_checkpoint(self) -> str:
        """Checkpoints of shadows."""
        return self.of(SHADOW_CHECKPOINT)

    @property
    def shadow_groups(self) -> str:
        """What the group of every shadow begins with; its name follows."""
        return f"{self.group}-shadow-"

    @property
    def replay(self) -> str:
        """Inputs that are sent to a replay."""
        return self.of(ROUTING_REPLAY)

    @property
    def replayed(self) -> str:
        """Steps that a replay makes of them."""
        return self.of(DECISION_REPLAY)

    @property
    def publisher_group(self) -> str:
        """Group in whose committed offsets the publisher keeps its progress."""
        return f"{self.group}-publisher"

    @property
    def sink_group(self) -> str:
        """Group of the sinks that write the audit in Postgres."""
        return f"{self.group}-sink-postgres"

    @property
    def lines_groups(self) -> str:
        """What the group of every sink that writes JSON lines begins with."""
        return f"{self.group}-sink-lines-"

    @property
    def changelogs(self) -> tuple[str, ...]:
        """Changelogs of the Faust tables, named by Faust."""
        return tuple(map(self.changelog, TABLES))

    def changelog(self, table: str) -> str:
        """Changelog of one Faust table."""
        return f"{self.group}-{table}-changelog"
