"""What an audit came to, as plain values for terminal, JSON and pages."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from streams.audit.problem import Problem, Promise


class PartitionReport(Struct, frozen=True, kw_only=True):
    """What one partition's journal held."""

    partition: int
    #: None: the journal is empty.
    first_seq: int | None
    steps: int
    #: Records whose number was taken.
    fenced: int
    #: Foreign records that an operator has noted.
    skipped: int = 0
    #: Id of the journal; None: an older slotwise wrote all that it holds.
    journal_id: str | None = None
    #: By topic.
    inputs: Mapping[str, int]
    #: By outcome.
    decisions: Mapping[str, int]
    #: Tasks that are not finished.
    live_tasks: int
    #: Steps derived again byte by byte; None: not asked for, or not possible.
    derived: int | None = None


class Report(Struct, frozen=True, kw_only=True):
    """What an audit came to."""

    #: The journal's name in the audit database.
    journal: str
    sound: bool
    #: Those found, at most `journal.PROBLEMS_MAX` of each partition.
    problems: tuple[Problem, ...]
    problems_total: int
    partitions: tuple[PartitionReport, ...]
    #: What was checked.
    checked: Mapping[Promise, str]
    #: What could not be checked, and why.
    notes: tuple[str, ...]
