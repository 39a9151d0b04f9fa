"""What holds for the cells of a fleet at one time, for every task: the refusing gate, who is in reach, and flags."""

from __future__ import annotations

from schemas.vocabulary import Gate, Millis
from streams.core.index.fleet import Cell, Fleet, Verdicts
from streams.core.policy.case import Candidate, Moment
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import comes_back, refusing_now
from streams.core.state.marks import Marks


class Conditions:
    """The last evaluation of the marks. It is repeated only when its result may have changed."""

    def __init__(self, rulebook: Rulebook, marks: Marks, now_ms: Millis) -> None:
        self._rulebook = rulebook
        self.marks = marks
        self.now_ms = now_ms
        #: Of each cell: the gate that refuses every task, or None.
        self.by_cell: Verdicts = ()
        #: Cells with a slot in service; and those of them that no mark refuses without a known end.
        self.in_service = 0
        self.in_reach = 0
        self.flags: tuple[str, ...] = ()
        #: Fleet, slots in service, marks and their version, and the times between which the evaluation holds.
        self._seen: tuple[Fleet, int, Marks, int, Millis, float] | None = None

    def look(self, fleet: Fleet, in_service: int, marks: Marks, now_ms: Millis) -> bool:
        """Evaluate marks and slots; return whether the answer for a cell is another one than before."""
        seen = self._seen
        if (
            seen is not None
            and seen[0] is fleet
            and seen[1] == in_service
            and seen[2] is marks
            and seen[3] == marks.version
            and seen[4] <= now_ms < seen[5]
        ):
            return False
        self._seen = (fleet, in_service, marks, marks.version, now_ms, marks.next_change_ms(now_ms))
        self.marks, self.now_ms = marks, now_ms
        before = (self.by_cell, self.in_service, self.in_reach)
        self.by_cell = tuple([self._gate(cell) for cell in fleet.cells])
        self.in_service = in_service
        self.in_reach = in_service & sum([1 << i for i, cell in enumerate(fleet.cells) if self._comes_back(cell)])
        flags: dict[str, None] = {}
        if marks.quotas:
            for account in dict.fromkeys(cell.account for cell in fleet.cells):
                flags.update(dict.fromkeys(self._rulebook.policy.quota.flags(account, marks, now_ms)))
        self.flags = tuple(flags)
        return before != (self.by_cell, self.in_service, self.in_reach)

    def _gate(self, cell: Cell) -> Gate | None:
        if not self.marks:
            return None
        rule = refusing_now(self._moment(), self._candidate(cell))
        return rule.gate if rule is not None else None

    def _comes_back(self, cell: Cell) -> bool:
        return not self.marks or comes_back(self._moment(), self._candidate(cell))

    def _moment(self) -> Moment:
        return Moment(rulebook=self._rulebook, marks=self.marks, now_ms=self.now_ms)

    def _candidate(self, cell: Cell) -> Candidate:
        return Candidate(self._rulebook.models[cell.model], cell.account)
