"""What the audit database says of itself, and whether it holds what the journal holds. Reads views only.

A login with slotwise_read is enough. Days that were dropped are not missed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from msgspec import Struct
from psycopg.rows import dict_row

from streams.audit.problem import Problem
from streams.database.connection import Timeouts, connect, reading_audit
from streams.database.sql import QUERIES
from streams.secret import Dsn

if TYPE_CHECKING:
    from psycopg import Connection, Cursor
    from psycopg.rows import TupleRow

#: Rows of one answer that are reported, at most.
ROWS_MAX: Final = 100


class Journaled(Struct, frozen=True, kw_only=True):
    """A step of the journal, as far as its rows can be compared."""

    seq: int
    offset: int
    sha256: bytes
    #: The ids of its decisions, each once: an id that stands twice is kept once.
    decisions: frozenset[str]


class StoredPartition(Struct, frozen=True, kw_only=True, rename=lambda name: name.replace("_expected", "_told")):
    """A line of `v_audit_check`: the rows that a partition's steps count (`expected`), and those that are there."""

    journal: str
    partition: int
    first_seq: int
    last_seq: int
    steps: int
    steps_missing: int
    links_broken: int
    decisions_expected: int
    decisions_found: int
    work_expected: int
    work_found: int
    controls_expected: int
    controls_found: int
    money_expected: int
    money_found: int


class StoredAudit:
    """One journal's rows in the audit database. A context manager; blocks while Postgres answers."""

    def __init__(self, dsn: Dsn | str, journal: str, timeouts: Timeouts) -> None:
        """Connect.

        Raises:
            DatabaseError: Postgres cannot be reached.
        """
        self.journal = journal
        self._connection: Connection[TupleRow] = connect(dsn, timeouts, application="slotwise audit")

    def __enter__(self) -> Self:
        """Go on with the connection."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._connection.close()

    def partitions(self) -> dict[int, StoredPartition]:
        """The line of each partition that has rows.

        Raises:
            DatabaseError: the database has no audit, or does not let us read it; so do all that follow.
        """
        with self._connection.cursor(row_factory=dict_row) as cursor:
            found = self._asked(cursor, "check")
        # Sums are numeric in Postgres.
        rows = [
            msgspec.convert(
                {name: int(value) if isinstance(value, Decimal) else value for name, value in row.items()},
                StoredPartition,
            )
            for row in found
        ]
        return {row.partition: row for row in rows}

    def problems(self, partitions: Sequence[StoredPartition]) -> Iterator[Problem]:
        """What the rows say against themselves: gaps, broken links, and rows that are counted by a step and missing."""
        if any(one.steps_missing for one in partitions):
            for _, partition, first, last in self._rows("gaps"):
                missing = f"steps {first} to {last} are" if last > first else f"step {first} is"
                yield Problem(promise="stored", says=f"{missing} not in the audit", partition=partition, seq=first)
        for one in partitions:
            if one.links_broken:
                yield Problem(
                    promise="chain",
                    says=f"{one.links_broken} links of the chain of hashes are broken",
                    partition=one.partition,
                )
            for what, expected, found in (
                ("outcomes of work", one.work_expected, one.work_found),
                ("control events", one.controls_expected, one.controls_found),
                ("movements of money", one.money_expected, one.money_found),
            ):
                if expected != found:
                    yield Problem(
                        promise="stored",
                        says=f"the steps hold {expected} {what}, and the audit has {found}",
                        partition=one.partition,
                    )
        if any(one.decisions_expected != one.decisions_found for one in partitions):
            for _, partition, seq, _, expected, found in self._rows("disagreements"):
                yield Problem(
                    promise="stored",
                    says=f"the step holds {expected} decisions, and the audit has {found} of them",
                    partition=partition,
                    seq=seq,
                )

    def stands(self) -> dict[int, int]:
        """The last step of each partition that has rows."""
        return dict(self._rows("stands"))

    def compare(self, partition: int, steps: Sequence[Journaled]) -> tuple[list[Problem], list[Journaled]]:
        """Compare rows with steps of the journal, in their order: offset, hash, and whose decisions they have.

        Gives what is wrong, and the steps that have no row: the sink has not written them yet, or they are missing,
        which `problems` reports, or their days were dropped.
        """
        problems: list[Problem] = []
        absent: list[Journaled] = []
        if not steps:
            return problems, absent
        of = {"partition": partition, "from_seq": steps[0].seq, "to_seq": steps[-1].seq}
        rows = {seq: (offset, bytes(sha256)) for seq, offset, sha256 in self._rows("steps_between", **of)}
        ids: dict[int, set[str]] = {}
        for seq, decision_id in self._rows("decisions_between", **of):
            ids.setdefault(seq, set()).add(str(decision_id))
        for step in steps:
            row = rows.get(step.seq)
            if row is None:
                absent.append(step)
                continue
            says = None
            if row[1] != step.sha256:
                says = f"the record at offset {step.offset} is another than the one that the audit has a hash of"
            elif row[0] != step.offset:
                says = f"the record is at offset {step.offset}, and the audit says {row[0]}"
            elif foreign := ids.get(step.seq, set()) - step.decisions:
                says = f"the audit has the decision {min(foreign)}, which is not in the step"
            if says is not None:
                problems.append(Problem(promise="stored", says=says, partition=partition, seq=step.seq))
        return problems, absent

    def _rows(self, query: str, **named: Any) -> list[TupleRow]:
        with self._connection.cursor() as cursor:
            return self._asked(cursor, query, **named)

    def _asked(self, cursor: Cursor[Any], query: str, **named: Any) -> list[Any]:
        given = {"journal": self.journal, "rows_max": ROWS_MAX, **named}
        with reading_audit():
            return cursor.execute(QUERIES[query], given).fetchall()
