"""The degradation curve: the more of a quota is used, the fewer models may use it. The curve is data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.marks import QuotaRow
from schemas.vocabulary import Millis, Tier, Word, from_millis
from streams.core.policy.case import Candidate, Moment, each_once
from streams.core.policy.catalog import Model
from streams.core.state.marks import Account, Marks

Usage = Annotated[float, Meta(ge=0.0, le=1.0)]


class Refused(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that a step of the curve refuses: those of a product, or of one tier of it."""

    product: Word
    tier: Tier | None = None


class QuotaStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From this usage on (inclusive) models are refused or decisions flagged."""

    usage_of: Word
    from_share: Usage
    refuse: tuple[Refused, ...] = ()
    #: Flag of decisions from this usage on, such as `watching`.
    flag: Word | None = None

    def concerns(self, model: Model) -> bool:
        """Whether the step refuses this model once it is reached."""
        return any(one.product == model.product and one.tier in (None, model.tier) for one in self.refuse)


class QuotaPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The curve, in steps, and how long a report without a reset counts."""

    step: tuple[QuotaStep, ...] = ()
    #: A report that does not say when its window resets says nothing after this.
    unknown_reset_s: Annotated[float, Meta(gt=0.0, le=31_536_000.0)] = 18_000.0

    def flags(self, account: Account, marks: Marks, now_ms: Millis) -> tuple[str, ...]:
        """Return the flags for this account."""
        return tuple(
            step.flag
            for step in self.step
            if step.flag is not None and usage(marks, step.usage_of, account, now_ms) >= step.from_share
        )


class Quota:
    """The usage against the steps of the curve."""

    gate: Final = "quota"
    headline: Final = "quota"
    looks_at: Final = "marks"
    task_fields: Final = ()
    unable: Final = False
    means: Final = "was too close to the end of its quota"

    def refuses(self, moment: Moment, at: Candidate) -> bool:
        """Whether usage has reached a step that refuses the model to this account."""
        return any(True for _ in _reached(moment, at))

    def ends_ms(self, moment: Moment, at: Candidate) -> Millis | None:
        """When the last window that holds it back resets, and the model opens if nothing is reported until then.

        None: one of them was reported by an earlier version, without a reset.
        """
        ends: list[Millis] = []
        for step in _reached(moment, at):
            for row in _windows(moment.marks, step.usage_of, at.account, moment.now_ms):
                if row.utilisation >= step.from_share:
                    if row.resets_at_ms is None:
                        return None
                    ends.append(row.resets_at_ms)
        return max(ends, default=None)

    def reason(self, moment: Moment, at: Candidate) -> str:
        """The usage, and the one from which the model is refused."""
        name = at.model.id
        of, stop = _stop(moment, at)
        used = usage(moment.marks, of, at.account, moment.now_ms)
        own = at.account is not None and used > usage(moment.marks, of, None, moment.now_ms)
        whose = f" of {at.account}" if own else ""
        return f"{name} is held back: {of}{whose} is at {used:.0%} of its quota; {name} stops at {stop:.0%}."

    def remedy(self, moment: Moment, refused: Sequence[Candidate]) -> str:
        """A usage below every step that refuses the model, the window's reset, or `slotwise restore`."""
        of, stop = _stop(moment, refused[0])
        ends = [ends_ms for at in refused if (ends_ms := self.ends_ms(moment, at)) is not None]
        reset = f"; that window resets at {from_millis(min(ends))}" if ends else ""
        return f"A usage of {of} below {stop:.0%}{reset}; or end what was reported: slotwise restore {of}"

    def waits(self, moment: Moment, refused: Sequence[Candidate]) -> str:
        """Every model that is refused."""
        return each_once(self.reason(moment, at) for at in refused)


def usage(marks: Marks, product: str, account: Account, now_ms: Millis) -> float:
    """Return the usage of the product's strictest window for this account, 0..1; a window past its reset is 0."""
    return max((row.utilisation for row in _windows(marks, product, account, now_ms)), default=0.0)


def _windows(marks: Marks, product: str, account: Account, now_ms: Millis) -> Iterator[QuotaRow]:
    """Return the product's windows that count for this account now."""
    for (of, whose, _), row in marks.quotas.items():
        if of == product and whose in (None, account) and (row.resets_at_ms is None or row.resets_at_ms > now_ms):
            yield row


def _reached(moment: Moment, at: Candidate) -> Iterator[QuotaStep]:
    """Return the steps that refuse the model to this account now."""
    marks, now_ms = moment.marks, moment.now_ms
    for step in moment.rulebook.policy.quota.step:
        if step.concerns(at.model) and usage(marks, step.usage_of, at.account, now_ms) >= step.from_share:
            yield step


def _stop(moment: Moment, at: Candidate) -> tuple[str, float]:
    """Return the product whose usage refuses the model, and the usage from which it does."""
    step = next(_reached(moment, at))
    return step.usage_of, min(one.from_share for one in _reached(moment, at) if one.usage_of == step.usage_of)
