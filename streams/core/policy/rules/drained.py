"""A drained model gets no new task until it is restored, or until the time of the drain."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.vocabulary import Millis, from_millis
from streams.core.policy.case import Candidate, Moment, each_once


class Drained:
    """The drains by operators."""

    gate: Final = "drained"
    headline: Final = "drained"
    looks_at: Final = "marks"
    task_fields: Final = ()
    unable: Final = False
    means: Final = "was taken out of service by an operator"

    def refuses(self, moment: Moment, at: Candidate) -> bool:
        """Whether the model is drained now; a drain concerns all accounts."""
        drained = moment.marks.drained
        if at.model.id not in drained:
            return False
        until_ms = drained[at.model.id]
        return until_ms is None or until_ms > moment.now_ms

    def ends_ms(self, moment: Moment, at: Candidate) -> Millis | None:
        """The time at which the drain ends, if it has one."""
        return moment.marks.drained.get(at.model.id)

    def reason(self, moment: Moment, at: Candidate) -> str:
        """The drain, and its end if it has one."""
        ends_ms = self.ends_ms(moment, at)
        until = "" if ends_ms is None else f" until {from_millis(ends_ms)}"
        return f"{at.model.id} is drained{until}."

    def remedy(self, moment: Moment, refused: Sequence[Candidate]) -> str:
        """Waiting for the end, or `slotwise restore`."""
        at = refused[0]
        ends_ms = self.ends_ms(moment, at)
        wait = (
            "Put it back into service: "
            if ends_ms is None
            else f"Wait until {from_millis(ends_ms)}, or put it back into service now: "
        )
        return f"{wait}slotwise restore {at.model.id}"

    def waits(self, moment: Moment, refused: Sequence[Candidate]) -> str:
        """Every drained model."""
        return each_once(self.reason(moment, at) for at in refused)
