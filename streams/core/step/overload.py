"""Outcomes that say that the vendor had no room: no attempt of the task, but a mark on the product.

The mark is an ordinary one, with an operators' event of its own in the journal, so that it is shown, audited and ended
like any other. `by` says which slot reported it.
"""

from __future__ import annotations

from typing import Final

from schemas.decision import ControlTaken
from schemas.events import ModelExhausted, Outcome
from schemas.marks import ExhaustedMark
from schemas.vocabulary import OVERLOADED, Millis, from_millis, to_millis
from streams.core.policy.catalog import Model
from streams.core.policy.rulebook import Rulebook
from streams.core.state.marks import Account
from streams.core.step import controls
from streams.core.step.draft import PoolDraft

#: A `retry_at` further ahead counts as this: longer than the windows that vendors sell, and short enough for a mistake.
RETRY_AFTER_MS_MAX: Final = 7 * 86_400_000
_BY_CHARS_MAX: Final = 128


def is_overload(outcome: Outcome | None) -> bool:
    """Whether the work did not fail, but was not taken."""
    return outcome is not None and outcome.status == "failure" and outcome.error_class in OVERLOADED


def exhaust(
    draft: PoolDraft,
    decision_id: str,
    slot_id: str,
    model: Model,
    account: Account,
    outcome: Outcome,
    now_ms: Millis,
    rulebook: Rulebook,
) -> None:
    """Mark the model's product of this account as exhausted until the outcome's `retry_at`, else for the pause.

    A slot without an account speaks for all. A mark that lasts longer stays.
    """
    retry_ms = to_millis(outcome.retry_at) if outcome.retry_at is not None else now_ms
    until_ms = Millis(min(retry_ms, now_ms + RETRY_AFTER_MS_MAX))
    if until_ms <= now_ms:
        until_ms = Millis(now_ms + rulebook.overload_pause_ms)
    if draft.marks.exhausted.get((model.product, account), 0) >= until_ms:
        return
    event = ModelExhausted(
        control_id=f"outcome-{decision_id}",
        at=from_millis(now_ms),
        by=f"slot {slot_id}: {outcome.error_class}"[:_BY_CHARS_MAX],
        pool=draft.pool.name,
        product=model.product,
        account=account,
        until=from_millis(until_ms),
    )
    taken = ControlTaken(
        control_id=event.control_id, at_ms=now_ms, kind="model.exhausted", event=controls.written(event)
    )
    draft.mark_by_itself(
        ExhaustedMark(pool=event.pool, product=model.product, account=account, until_ms=until_ms), taken
    )
