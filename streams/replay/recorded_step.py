"""A step as a replay needs it: what says which inputs it handled and how, without its decisions and rows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Struct

from schemas.decision import Accepted, Advice, Rejected
from schemas.steps import decode_step_by
from schemas.vocabulary import INPUT_TOPICS, Millis


class RecordedStep(Struct, kw_only=True):
    """A record of the journal, in part; the bytes hold the rest."""

    partition: int
    seq: int
    now_ms: Millis
    journal: str | None = None
    #: Hashes of the rules that decided.
    policy: str
    catalog: str
    inputs: tuple[Accepted, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    advice: tuple[tuple[int, Advice], ...] = ()
    #: The record as it is in the journal, and its offset there; its reader sets them.
    raw: bytes = b""
    offset: int = 0


_STEPS: Final = msgspec.json.Decoder(RecordedStep)


def read_recorded(raw: bytes) -> RecordedStep:
    """Read a record of the journal.

    Raises:
        StepError: it is no step that this version can read.
    """
    step = decode_step_by(_STEPS, raw)
    step.raw = raw
    return step


def handled(steps: Iterable[RecordedStep]) -> list[tuple[int, int] | None]:
    """Return for each topic the first and the last offset that these steps handled; None: they handled none of it."""
    found: list[tuple[int, int] | None] = [None] * len(INPUT_TOPICS)
    for step in steps:
        for accepted in step.inputs:
            known = found[accepted.topic]
            found[accepted.topic] = (accepted.offset if known is None else known[0], accepted.offset)
    return found
