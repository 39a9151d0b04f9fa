"""Does this code, with these rules, make the same steps of the same inputs? The first difference, as data."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Step
from schemas.steps import decode_step, encode_step
from streams.core.router import Router
from streams.partition.ports import JournalPosition
from streams.partition.reader import HoldingReader, JournalReader
from streams.replay.inputs import InputRecords, inputs_of

#: Records of one partition's journal, in their order: (offset, value).
Journal: TypeAlias = Iterable[tuple[int, bytes]]


class Difference(Struct, frozen=True, kw_only=True):
    """The first place where a step and its derivation differ."""

    seq: int
    #: Where in the step's JSON, such as `decisions[0].chosen_slot_id`.
    path: str
    #: The values there, as JSON has them; None also where the place does not exist.
    journaled: Any
    derived: Any


class Verification(Struct, frozen=True, kw_only=True):
    """What verifying a journal came to."""

    #: Steps that were derived again byte by byte.
    steps: int
    #: The first difference, where verifying ended; None: there is none.
    difference: Difference | None = None


def rederive(router: Router, journal: Journal, records: InputRecords) -> Iterator[tuple[Step, Step]]:
    """Yield each accepted step with what the router makes of its inputs: (journaled, derived).

    The router takes every journaled step into its state, so that one difference does not spread.

    Raises:
        ReadingError: a step is missing, or a record is no step of this partition.
        InputMissing: `records` lack an input of a step.
    """
    reader = HoldingReader(JournalReader(router.state.number, decode_step, start=JournalPosition(0, router.seq)))
    for offset, value in journal:
        for step in reader.take(offset, value):
            # The worker writes the journal's id into the step; the router knows of none.
            derived = replace(router.handle(inputs_of(step, records)), journal=step.journal)
            router.apply(step)
            yield step, derived
    if reader.stopped is not None:
        raise reader.stopped


def verify(router: Router, journal: Journal, records: InputRecords) -> Verification:
    """Derive the steps of a journal again and compare them, up to the first difference.

    The router is at the journal's begin: new, or restored from a snapshot. Steps are compared in the present
    layout, so that a journal of an earlier one can be verified too.

    Raises:
        ReadingError, InputMissing: as `rederive`.
    """
    steps = 0
    for journaled, derived in rederive(router, journal, records):
        difference = first_difference(journaled, derived)
        if difference is not None:
            return Verification(steps=steps, difference=difference)
        steps += 1
    return Verification(steps=steps)


def first_difference(journaled: Step, derived: Step) -> Difference | None:
    """The first place where two steps differ in their JSON; None where their bytes are the same."""
    ours, theirs = encode_step(derived), encode_step(journaled)
    if ours == theirs:
        return None
    path, before, after = _differing("", json.loads(theirs), json.loads(ours)) or ("", None, None)
    return Difference(seq=journaled.seq, path=path, journaled=before, derived=after)


def _differing(path: str, journaled: Any, derived: Any) -> tuple[str, Any, Any] | None:
    if isinstance(journaled, dict) and isinstance(derived, dict):
        for name in dict.fromkeys([*journaled, *derived]):
            inner = f"{path}.{name}" if path else name
            if found := _differing(inner, journaled.get(name), derived.get(name)):
                return found
        return None
    if isinstance(journaled, list) and isinstance(derived, list):
        for place in range(max(len(journaled), len(derived))):
            before, after = (side[place] if place < len(side) else None for side in (journaled, derived))
            if found := _differing(f"{path}[{place}]", before, after):
                return found
        return None
    return None if journaled == derived else (path, journaled, derived)
