"""Does this code, with these rules, make the same steps of the same inputs? The first difference, as data.

The rules are those that the router has: it follows policies that were activated, because the events that activate them
are inputs with the whole text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Step
from schemas.steps import decode_step, encode_step
from streams.core.router import Router
from streams.partition.ports import JournalPosition
from streams.replay.difference import Difference, difference_at, first_difference
from streams.replay.inputs import InputReader, InputRecords
from streams.replay.recorded_step import RecordedStep
from streams.replay.stretches import StepReader

#: Records of one partition's journal, in their order: (offset, value).
Journal: TypeAlias = Iterable[tuple[int, bytes]]


class Verification(Struct, frozen=True, kw_only=True):
    """What verifying a journal came to."""

    #: Steps that were derived again byte by byte, and their decisions.
    steps: int
    decisions: int = 0
    #: The first difference, where verifying ended; None: there is none.
    difference: Difference | None = None


class Verifier:
    """Derives the steps of one partition again, one after the other. It ends with the first difference."""

    def __init__(
        self,
        router: Router,
        home: Callable[[bytes], int],
        took: Callable[[RecordedStep, Step], None] = lambda *_: None,
    ) -> None:
        """`router` has the state before the first step; `home` gives the partition of a key.

        `took` gets each step that is the same, as it is in the journal and as it was derived.
        """
        self.router = router
        self.steps = 0
        self.decisions = 0
        self._reader = InputReader(router.state.number, home)
        self._took = took

    def take(self, step: RecordedStep, records: InputRecords) -> Difference | None:
        """Derive the next step again; a step that is the same becomes part of the state, in which it is the journal's.

        Steps are compared in the present layout, so that a journal of an earlier one can be verified too.

        Raises:
            InputMissing: the records lack an input of it.
        """
        router = self.router
        inputs = self._reader.inputs_of(step, records)
        try:
            derived = router.handle(inputs)
        except Exception as error:  # noqa: BLE001 - what the router raises here it did not raise there
            return difference_at(step, "", "a step", f"the router failed: {error!r}")
        if step.journal is not None:
            # The worker writes the journal's id into the step; the router knows of none.
            derived = replace(derived, journal=step.journal)
        raw = encode_step(derived)
        if raw != step.raw and (difference := first_difference(step, raw)) is not None:
            return difference
        router.apply(derived)
        self.steps += 1
        self.decisions += len(derived.decisions)
        self._took(step, derived)
        return None

    def follow(self, step: RecordedStep) -> None:
        """Take the next step into the state as it is in the journal, without deriving it.

        Raises:
            StepError: it cannot be read whole.
        """
        self.router.apply(decode_step(step.raw))

    def found(self, difference: Difference | None = None) -> Verification:
        """Say what it came to so far."""
        return Verification(steps=self.steps, decisions=self.decisions, difference=difference)


def verify(
    router: Router, journal: Journal, records: InputRecords, home: Callable[[bytes], int] | None = None
) -> Verification:
    """Verify a journal that is in memory, up to the first difference.

    The router is at the journal's begin: new, or restored from a snapshot. Without `home` every key belongs here.

    Raises:
        ReadingError: a step is missing, or a record is no step of this partition.
        InputMissing: `records` lack an input of a step.
    """
    partition = router.state.number
    verifier = Verifier(router, home or (lambda _: partition))
    reader = StepReader(partition, JournalPosition(0, router.seq))
    for offset, value in journal:
        for step in reader.take(offset, value):
            difference = verifier.take(step, records)
            if difference is not None:
                return verifier.found(difference)
    reader.finish()
    return verifier.found()
