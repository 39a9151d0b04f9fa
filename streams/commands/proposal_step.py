"""A step towards other rules, written into the journal of every partition as `policy.proposed`."""

from __future__ import annotations

from typing import Final

from schemas.events import PolicyProposed
from schemas.vocabulary import ProposalStep, StepOutcome, from_millis
from streams.clock import SystemClock
from streams.core.policy.rulebook import Rulebook
from streams.settings import Settings

#: Differences and findings in an event; all are shown to the person.
FOUND_CHARS_MAX: Final = 2_000


def record_step(
    settings: Settings,
    rulebook: Rulebook,
    proposal: str,
    *,
    by: str,
    step: ProposalStep,
    outcome: StepOutcome,
    found: str,
) -> None:
    """Record a step of a proposal, by its id; `slotwise policy activate` asks the audit for it."""
    from streams.operate.orders import submit  # noqa: PLC0415 - brings the Kafka client along

    event = PolicyProposed(
        control_id=f"{proposal}-{step}",
        at=from_millis(SystemClock().now_ms()),
        by=by,
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        step=step,
        outcome=outcome,
        found=found[:FOUND_CHARS_MAX],
    )
    submit(settings, event, wait_s=None)
