"""Marks of one pool, set by operators and probes: exhausted products, drained models, used quotas.

A mark is a fact with an end; the rules decide what it refuses. A mark that has ended stays until the next one is
written and has no effect.
"""

from __future__ import annotations

from math import inf

from msgspec import Struct

from schemas.decision import DrainMark, ExhaustedMark, Mark, QuotaRow
from schemas.vocabulary import Millis

#: The account of a mark or a slot; None: a mark of all accounts, a slot without an account.
Account = str | None


class MarksDump(Struct, frozen=True, array_like=True):
    """Marks in a snapshot."""

    exhausted: tuple[ExhaustedMark, ...]
    drains: tuple[DrainMark, ...]
    quotas: tuple[QuotaRow, ...]


class Marks:
    """The marks of one pool, or those that a new pool of the partition begins with."""

    __slots__ = ("drained", "exhausted", "quotas", "version")

    def __init__(self) -> None:
        #: (product, account) -> until.
        self.exhausted: dict[tuple[str, Account], Millis] = {}
        #: model -> until, None: without end.
        self.drained: dict[str, Millis | None] = {}
        #: (product, account, window) -> as last reported.
        self.quotas: dict[tuple[str, Account, str], QuotaRow] = {}
        #: Grows with every change of this object.
        self.version = 0

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Marks)
            and self.exhausted == other.exhausted
            and self.drained == other.drained
            and self.quotas == other.quotas
        )

    __hash__ = None  # type: ignore[assignment]  # marks change

    def __bool__(self) -> bool:
        return bool(self.exhausted or self.drained or self.quotas)

    def copy(self) -> Marks:
        """Return a copy of the marks."""
        other = Marks()
        other.exhausted.update(self.exhausted)
        other.drained.update(self.drained)
        other.quotas.update(self.quotas)
        return other

    def put(self, row: Mark, now_ms: Millis) -> None:
        """Set the mark that the row names; the last one counts. Marks that have ended are removed."""
        self.version += 1
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
            case QuotaRow():
                self.quotas[row.product, row.account, row.window] = row
        self._forget(now_ms)

    def accounts(self) -> set[str]:
        """Return every account that a mark names."""
        named = {account for _, account in self.exhausted} | {account for _, account, _ in self.quotas}
        return {account for account in named if account is not None}

    def next_change_ms(self, after_ms: Millis) -> float:
        """Return the time at which the next mark ends by itself."""
        ends = (
            *self.exhausted.values(),
            *self.drained.values(),
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
        )

    @classmethod
    def load(cls, dump: MarksDump) -> Marks:
        """Load what `dump` returned."""
        marks = cls()
        rows: tuple[Mark, ...] = (*dump.exhausted, *dump.drains, *dump.quotas)
        for row in rows:
            marks.put(row, Millis(0))
        return marks

    def _forget(self, now_ms: Millis) -> None:
        for key, until_ms in list(self.exhausted.items()):
            if until_ms <= now_ms:
                del self.exhausted[key]
        for model, drained_ms in list(self.drained.items()):
            if drained_ms is not None and drained_ms <= now_ms:
                del self.drained[model]
        for window, row in list(self.quotas.items()):
            if row.resets_at_ms is not None and row.resets_at_ms <= now_ms:
                del self.quotas[window]
