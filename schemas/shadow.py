"""What a shadow says of the live decisions: each difference between the two with both sides, and the sums so far."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from schemas.vocabulary import Complexity, DecisionOutcome, MicroUsd, Millis, ReasonCode, Tier

#: What differs, the weightiest first: another model; it routes what waits, or lets wait what is routed; the task ends
#: otherwise; another slot of the same model; another class of the task; another reason; other terms of the same choice.
DifferenceKind = Literal[
    "other_model",
    "routes_instead",
    "waits_instead",
    "ends_otherwise",
    "other_slot",
    "other_class",
    "other_reason",
    "other_terms",
]


class Answer(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one side says of a task at a step: its decision, or what it had said before and still holds."""

    #: None: nothing is said of the task; it is delayed, runs, or is not known on this side.
    outcome: DecisionOutcome | None = None
    #: The deciding rule: a strategy, the headline of a wait, or the way of an end.
    reason_code: ReasonCode | None = None
    #: The sentence of the decision; empty where this side decided before, and still says the same.
    reason: str = ""
    slot_id: str | None = None
    model: str | None = None
    tier: Tier | None = None
    complexity: Complexity | None = None
    estimated_cost_uusd: MicroUsd | None = None
    max_tokens: int | None = None
    lease_expires_at_ms: Millis | None = None


class ShadowDifference(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One difference between the live decision about a task and the shadow's, at one step of the live journal.

    Delivered at least once; dedupe by `run` and `difference_id`.
    """

    v: int = 1
    #: Id of the decision that differs, derived from pool, step and task: the same whenever it is derived again.
    difference_id: str
    #: Id of the shadow's run, and the name that it was given.
    run: str
    name: str
    kind: DifferenceKind
    #: Step of the live journal.
    partition: int
    seq: int
    decided_at_ms: Millis
    pool: str
    task_id: str
    attempt: int
    priority: int
    title: str | None = None
    ev: float | None = None
    layer: str | None = None
    lane: str | None = None
    tenant_id: str | None = None
    task_type: str | None = None
    #: Hashes of policy and catalogue on both sides.
    policy: str
    catalog: str
    live_policy: str
    live_catalog: str
    live: Answer
    shadow: Answer
