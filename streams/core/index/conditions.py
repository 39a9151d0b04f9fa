"""Answers of the rules that look at marks, for the cells of a fleet at one time: the refusing gate, and flags."""

from __future__ import annotations

from schemas.vocabulary import Gate, Millis
from streams.core.index.fleet import Cell, Fleet, Verdicts
from streams.core.policy.case import Candidate, Moment
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import refusing_now
from streams.core.state.marks import Marks


class Conditions:
    """The last evaluation of the marks. It is repeated only when its result may have changed."""

    def __init__(self, rulebook: Rulebook, marks: Marks, now_ms: Millis) -> None:
        self._rulebook = rulebook
        self.marks = marks
        self.now_ms = now_ms
        #: Of each cell: the gate that refuses every task, or None.
        self.by_cell: Verdicts = ()
        self.flags: tuple[str, ...] = ()
        #: Fleet, marks and their version, and the times between which the evaluation holds.
        self._seen: tuple[Fleet, Marks, int, Millis, float] | None = None

    def look(self, fleet: Fleet, marks: Marks, now_ms: Millis) -> bool:
        """Evaluate the marks; return whether other cells are refused than before."""
        seen = self._seen
        same = seen is not None and seen[0] is fleet and seen[1] is marks and seen[2] == marks.version
        if same and seen is not None and seen[3] <= now_ms < seen[4]:
            return False
        self._seen = (fleet, marks, marks.version, now_ms, marks.next_change_ms(now_ms))
        self.marks, self.now_ms = marks, now_ms
        before = self.by_cell
        self.by_cell = tuple([self._gate(cell) for cell in fleet.cells])
        flags: dict[str, None] = {}
        if marks.quotas:
            for account in dict.fromkeys(cell.account for cell in fleet.cells):
                flags.update(dict.fromkeys(self._rulebook.policy.quota.flags(account, marks, now_ms)))
        self.flags = tuple(flags)
        return before != self.by_cell

    def _gate(self, cell: Cell) -> Gate | None:
        if not self.marks:
            return None
        moment = Moment(rulebook=self._rulebook, marks=self.marks, now_ms=self.now_ms)
        rule = refusing_now(moment, Candidate(self._rulebook.models[cell.model], cell.account))
        return rule.gate if rule is not None else None
