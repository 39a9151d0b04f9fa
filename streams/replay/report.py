"""What verifying some partitions came to, as plain values."""

from __future__ import annotations

from msgspec import Struct

from streams.replay.partition_run import Verified


class StoredSteps(Struct, kw_only=True):
    """What comparing verified steps with their rows in Postgres came to."""

    #: Steps that have rows, and steps that have none: the sink is behind, or their days were dropped.
    compared: int = 0
    absent: int = 0
    #: How many are not the same, and a sentence for each of the first.
    differing: int = 0
    says: tuple[str, ...] = ()


class VerifyReport(Struct, frozen=True, kw_only=True):
    """The result of `slotwise replay --verify`."""

    #: Whether every step that could be derived is the same.
    same: bool
    #: Steps derived again byte by byte, and their decisions.
    steps: int
    decisions: int
    #: Wall clock of this run, in seconds, and its decisions a second; earlier runs' decisions do not count.
    seconds: float
    decisions_per_s: int
    #: Hashes of the rules that were given.
    policy: str
    catalog: str
    #: Version of the rules' code that derived.
    slotwise: str
    partitions: tuple[Verified, ...]
    #: None: they were not compared.
    stored: StoredSteps | None = None
