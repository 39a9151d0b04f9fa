"""The degradation curve: the more of a quota is used, the less may still draw on it. The curve is data."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from schemas.vocabulary import Millis, Tier, Word
from streams.core.policy.catalog import Model
from streams.core.state.marks import Account, Marks

Usage = Annotated[float, Meta(ge=0.0, le=1.0)]


class Refused(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Models that a step of the curve refuses: those of a product, or of one tier of it."""

    product: Word
    tier: Tier | None = None


class QuotaStep(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From this usage on (inclusive) something is refused, or only pointed out."""

    usage_of: Word
    from_share: Usage
    refuse: tuple[Refused, ...] = ()
    #: Stands in the decisions from here on, such as `watching`.
    flag: Word | None = None


class QuotaPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The curve, in steps."""

    step: tuple[QuotaStep, ...] = ()

    def refusing(self, model: Model, account: Account, marks: Marks, now_ms: Millis) -> QuotaStep | None:
        """The step that refuses this model to this account, if any does."""
        for step in self.step:
            for refused in step.refuse:
                if refused.product != model.product or refused.tier not in (None, model.tier):
                    continue
                if usage(marks, step.usage_of, account, now_ms) >= step.from_share:
                    return step
        return None

    def flags(self, account: Account, marks: Marks, now_ms: Millis) -> tuple[str, ...]:
        """What is to be pointed out of this account."""
        return tuple(
            step.flag
            for step in self.step
            if step.flag is not None and usage(marks, step.usage_of, account, now_ms) >= step.from_share
        )


def usage(marks: Marks, product: str, account: Account, now_ms: Millis) -> float:
    """Usage of the product's strictest window for this account, 0..1; windows past their reset are empty."""
    return max(
        (
            row.utilisation
            for (of, whose, _), row in marks.quotas.items()
            if of == product and whose in (None, account) and (row.resets_at_ms is None or row.resets_at_ms > now_ms)
        ),
        default=0.0,
    )


def reason(model: str, step: QuotaStep, used: float) -> str:
    """Why this model is spared."""
    return f"{model} is spared: {used:.0%} of {step.usage_of} is used, and it is refused from {step.from_share:.0%} on"
