"""One partition verified from a source, stretch by stretch: what was derived, what could not be, where it ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from msgspec import Struct

from schemas.decision import Step
from streams.core.policy.rulebook import Rulebook
from streams.partition.ports import JournalError, JournalPosition
from streams.replay.begin import Begin, NoBegin, begin
from streams.replay.difference import Difference
from streams.replay.inputs import InputMissing
from streams.replay.recorded_step import RecordedStep
from streams.replay.source import Source
from streams.replay.span import Span
from streams.replay.stretches import Stretch, stretches
from streams.replay.verify import Verifier


class Rules(Struct, frozen=True):
    """Rules that decided from a step on."""

    seq: int
    policy: str
    catalog: str
    #: Whether an operator's event put them in force; else they were those of the worker's files.
    activated: bool


class Verified(Struct, kw_only=True):
    """What came of one partition, so far."""

    partition: int
    #: Id of the journal; None: no step that was read has one.
    journal_id: str | None = None
    #: First step that was derived, and the one after the last; None: there was none.
    first_seq: int | None = None
    next_seq: int | None = None
    #: Steps that were derived again byte by byte, and their decisions.
    steps: int = 0
    decisions: int = 0
    #: Those of the decisions that earlier runs had derived, from which this one went on.
    earlier_decisions: int = 0
    #: Steps before the span, which were only followed.
    followed: int = 0
    #: Steps whose inputs retention has taken: they could only be followed.
    without_inputs: int = 0
    rules: tuple[Rules, ...] = ()
    #: Where it ended before the end of the span; None: it did not.
    difference: Difference | None = None
    problem: str | None = None
    #: Stopped before the end; what was verified is noted where it goes on.
    stopped: bool = False

    @property
    def same(self) -> bool:
        """Whether no step was found that is not the same."""
        return self.difference is None and self.problem is None


class PartitionRun:
    """Verifies one partition."""

    def __init__(
        self,
        source: Source,
        rulebook: Rulebook,
        home: Callable[[bytes], int],
        span: Span,
        *,
        resumed: tuple[Begin, Verified] | None = None,
        took: Callable[[RecordedStep, Step], None] = lambda *_: None,
    ) -> None:
        """`home` gives the partition of a key; `resumed` is where an earlier run ended; `took` is a `Verifier`'s."""
        self._source = source
        self._rulebook = rulebook
        self._home = home
        self._span = span
        self._took = took
        self._begin = resumed[0] if resumed is not None else None
        self.found = Verified(partition=source.partition) if resumed is None else resumed[1]
        self.found.earlier_decisions = self.found.decisions
        #: First offset kept of each input topic, once it was asked for.
        self._first_offsets: dict[int, int] = {}
        self._verifier: Verifier | None = None
        #: Where the state of the verifier stands.
        self._position = JournalPosition(0, 0)

    async def stretches(self) -> AsyncGenerator[Verified, None]:
        """Verify, and yield what came of it after each stretch; at the first difference it ends."""
        try:
            start = self._begin or await begin(self._source, self._rulebook, self._span)
            self._verifier = Verifier(start.router, self._home, self._took)
            self._position = start.position
            async with aclosing(stretches(self._source, start.position, self._span)) as found:
                async for stretch in found:
                    goes_on = await self._take(self._verifier, stretch)
                    yield self.found
                    if not goes_on:
                        return
        except (JournalError, NoBegin) as error:
            self.found.problem = str(error)
            yield self.found

    @property
    def state(self) -> Begin | None:
        """The state so far and its place, from where another run can go on; None: it has not begun."""
        return None if self._verifier is None else Begin(self._verifier.router, self._position)

    async def _take(self, verifier: Verifier, stretch: Stretch) -> bool:
        """Verify a stretch; whether there is more to verify."""
        for step in stretch.steps:
            if self._span.is_behind(step):
                return False
            if self._span.is_before(step):
                verifier.follow(step)
                self.found.followed += 1
            elif not await self._derive(verifier, step, stretch):
                return False
            self._position = JournalPosition(step.offset + 1, step.seq + 1)
        return True

    async def _derive(self, verifier: Verifier, step: RecordedStep, stretch: Stretch) -> bool:
        found = self.found
        decided = verifier.decisions
        try:
            difference = verifier.take(step, stretch.inputs)
        except InputMissing as missing:
            if not await self._is_gone(missing):
                found.problem = (
                    f"{missing} Retention has not taken it: the topic was changed, or it is not the topic of this "
                    "journal."
                )
                return False
            verifier.follow(step)
            found.without_inputs += 1
            return True
        if difference is not None:
            found.difference = difference
            return False
        if found.first_seq is None:
            found.first_seq = step.seq
        found.next_seq = step.seq + 1
        found.journal_id = found.journal_id or step.journal
        found.steps += 1
        found.decisions += verifier.decisions - decided
        if not found.rules or (found.rules[-1].policy, found.rules[-1].catalog) != (step.policy, step.catalog):
            activated = verifier.router.state.activated
            found.rules = (*found.rules, Rules(step.seq, step.policy, step.catalog, activated is not None))
        return True

    async def _is_gone(self, missing: InputMissing) -> bool:
        if missing.topic not in self._first_offsets:
            self._first_offsets[missing.topic] = await self._source.inputs.first(missing.topic)
        return missing.offset < self._first_offsets[missing.topic]
