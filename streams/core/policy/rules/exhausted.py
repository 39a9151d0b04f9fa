"""An exhausted product gets no task until its reset; the mark then ends by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from schemas.vocabulary import Millis, from_millis
from streams.core.policy.case import Candidate, Moment, each_once


class Exhausted:
    """The marks of exhausted products."""

    gate: Final = "exhausted"
    headline: Final = "exhausted"
    looks_at: Final = "marks"
    task_fields: Final = ()
    unable: Final = False
    means: Final = "had used up its quota"

    def refuses(self, moment: Moment, at: Candidate) -> bool:
        """Whether the product is marked for this account or for all accounts."""
        return self.ends_ms(moment, at) is not None

    def ends_ms(self, moment: Moment, at: Candidate) -> Millis | None:
        """The end of the last mark."""
        exhausted, product = moment.marks.exhausted, at.model.product
        known = (exhausted.get((product, at.account)), exhausted.get((product, None)))
        return max((until for until in known if until is not None and until > moment.now_ms), default=None)

    def reason(self, moment: Moment, at: Candidate) -> str:
        """The product, and the end of its mark."""
        until_ms = self.ends_ms(moment, at)
        general = moment.marks.exhausted.get((at.model.product, None)) == until_ms
        whose = "" if at.account is None or general else f" of {at.account}"
        until = "" if until_ms is None else f" until {from_millis(until_ms)}"
        return f"{at.model.product}{whose} is exhausted{until}."

    def remedy(self, moment: Moment, refused: Sequence[Candidate]) -> str:
        """Waiting for the mark that ends first, or `slotwise restore`."""
        ends = [ends_ms for at in refused if (ends_ms := self.ends_ms(moment, at)) is not None]
        wait = f"Wait until {from_millis(min(ends))}, or end it now" if ends else "End it now"
        return f"{wait}: slotwise restore {refused[0].model.product}"

    def waits(self, moment: Moment, refused: Sequence[Candidate]) -> str:
        """Every exhausted product."""
        return each_once(self.reason(moment, at) for at in refused)
