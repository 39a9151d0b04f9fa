"""Marks of one pool, set by operators and probes: exhausted products, drained models, used quotas.

A mark is a fact with an end; the rules decide what it refuses. A mark that has ended stays until the next step with
marks and has no effect; a report of a quota stays longer, because an older one may still arrive.
"""

from __future__ import annotations

from math import inf
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from schemas.marks import BreakerMark, DrainMark, ExhaustedMark, Mark, QuotaRow
from schemas.vocabulary import BreakerScope, Millis

#: A report of a quota is remembered this long, even after its reset: an older one that arrives changes nothing.
REPORT_MEMORY_MS: Final = 30 * 86_400_000

#: The account of a mark or a slot; None: a mark of all accounts, a slot without an account.
Account = str | None


class MarksDump(Struct, frozen=True, array_like=True):
    """Marks in a snapshot."""

    exhausted: tuple[ExhaustedMark, ...]
    drains: tuple[DrainMark, ...]
    quotas: tuple[QuotaRow, ...]
    breakers: tuple[BreakerMark, ...] = ()


class Marks:
    """The marks of one pool, or those that a new pool of the partition begins with."""

    __slots__ = ("breakers", "drained", "exhausted", "quotas", "version")

    def __init__(self) -> None:
        #: (product, account) -> until.
        self.exhausted: dict[tuple[str, Account], Millis] = {}
        #: model -> until, None: without end.
        self.drained: dict[str, Millis | None] = {}
        #: (product, account, window) -> as last reported.
        self.quotas: dict[tuple[str, Account, str], QuotaRow] = {}
        #: (tenant, lane or pool, its name; None: the pool's) -> until when its cap is suspended.
        self.breakers: dict[tuple[BreakerScope, str | None], Millis] = {}
        #: Grows with every change of this object.
        self.version = 0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Marks)
            and self.exhausted == other.exhausted
            and self.drained == other.drained
            and self.quotas == other.quotas
            and self.breakers == other.breakers
        )

    __hash__ = None  # type: ignore[assignment]  # marks change

    def __bool__(self) -> bool:
        return bool(self.exhausted or self.drained or self.quotas or self.breakers)

    def copy(self) -> Marks:
        """Return a copy of the marks."""
        other = Marks()
        other.exhausted.update(self.exhausted)
        other.drained.update(self.drained)
        other.quotas.update(self.quotas)
        other.breakers.update(self.breakers)
        return other

    def put(self, row: Mark) -> bool:
        """Set the mark that the row names; the last one counts, of reports of a quota the newest.

        Return whether it changed anything: a report that is older than the known one of its window does not.
        """
        match row:
            case ExhaustedMark(until_ms=None, account=None):
                for key in [key for key in self.exhausted if key[0] == row.product]:
                    del self.exhausted[key]
            case ExhaustedMark(until_ms=None):
                self.exhausted.pop((row.product, row.account), None)
            case ExhaustedMark(until_ms=until_ms) if until_ms is not None:
                self.exhausted[row.product, row.account] = until_ms
            case DrainMark():
                if row.drained:
                    self.drained[row.model] = row.until_ms
                else:
                    self.drained.pop(row.model, None)
            case BreakerMark():
                self.breakers[row.of, row.name] = row.until_ms
            case QuotaRow(window=None):
                self._end_quotas(row)
            case QuotaRow(window=window) if window is not None:
                window_of = row.product, row.account, window
                known = self.quotas.get(window_of)
                if known is not None and (row.at_ms or 0) < (known.at_ms or 0):
                    return False
                self.quotas[window_of] = row
        self.version += 1
        return True

    def forget(self, now_ms: Millis) -> None:
        """Remove marks that have ended, and reports of quotas once none that is older can count any more."""
        for key, until_ms in list(self.exhausted.items()):
            if until_ms <= now_ms:
                del self.exhausted[key]
        for model, drained_ms in list(self.drained.items()):
            if drained_ms is not None and drained_ms <= now_ms:
                del self.drained[model]
        for cap, until_ms in list(self.breakers.items()):
            if until_ms <= now_ms:
                del self.breakers[cap]
        for window, row in list(self.quotas.items()):
            over = row.resets_at_ms is not None and row.resets_at_ms <= now_ms
            if over and (row.at_ms is None or row.at_ms < now_ms - REPORT_MEMORY_MS):
                del self.quotas[window]

    def is_open(self, of: BreakerScope, name: str, now_ms: Millis) -> bool:
        """Whether an operator has suspended this cap of the cost breaker; a pool's has no name here."""
        until_ms = self.breakers.get((of, None if of == "pool" else name))
        return until_ms is not None and until_ms > now_ms

    def accounts(self) -> set[str]:
        """Return every account that a mark names."""
        named = {account for _, account in self.exhausted} | {account for _, account, _ in self.quotas}
        return {account for account in named if account is not None}

    def next_change_ms(self, after_ms: Millis) -> float:
        """Return the time at which the next mark ends by itself."""
        ends = (
            *self.exhausted.values(),
            *self.drained.values(),
            *self.breakers.values(),
            *(row.resets_at_ms for row in self.quotas.values()),
        )
        return min((at for at in ends if at is not None and at > after_ms), default=inf)

    def dump(self) -> MarksDump:
        """Return the marks as rows, in an order that does not depend on how they were set."""
        return MarksDump(
            tuple(
                ExhaustedMark(product=product, account=account, until_ms=until_ms)
                for (product, account), until_ms in sorted(self.exhausted.items(), key=str)
            ),
            tuple(
                DrainMark(model=model, drained=True, until_ms=until_ms)
                for model, until_ms in sorted(self.drained.items(), key=str)
            ),
            tuple(row for _, row in sorted(self.quotas.items(), key=str)),
            tuple(
                BreakerMark(of=of, name=name, until_ms=until_ms)
                for (of, name), until_ms in sorted(self.breakers.items(), key=str)
            ),
        )

    @classmethod
    def load(cls, dump: MarksDump) -> Marks:
        """Load what `dump` returned."""
        marks = cls()
        rows: tuple[Mark, ...] = (*dump.exhausted, *dump.drains, *dump.quotas, *dump.breakers)
        for row in rows:
            marks.put(row)
        return marks

    def _end_quotas(self, end: QuotaRow) -> None:
        """End what was reported, and remember when that was."""
        for key, row in list(self.quotas.items()):
            if row.product != end.product or end.account not in (None, row.account):
                continue
            if row.at_ms is None:
                del self.quotas[key]
            else:
                self.quotas[key] = replace(row, utilisation=0.0, resets_at_ms=end.at_ms, status=None)
