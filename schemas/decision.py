"""What the journal holds: steps, the decisions in them and the rows they leave behind.

A step is one record on `decision.audit`. Only what stands in an accepted step has happened; the state of a
partition is the fold of its steps. Times are milliseconds (`_ms`), money is micro-dollars (`_uusd`); the
layout is public and versioned (`v`), because auditors, followers and other languages read it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct

from schemas.events import Outcome, TaskPending
from schemas.vocabulary import (
    Complexity,
    DecisionOutcome,
    MicroUsd,
    Millis,
    Mode,
    Objective,
    ReasonCode,
    Strategy,
    Tier,
)

STEP_VERSION = 1

TaskState = Literal["held", "waiting", "running"]
SlotState = Literal["free", "held", "lost"]


class Accepted(Struct, frozen=True, array_like=True, gc=False):
    """One input that the step handled, in the order in which it was handled: `[topic, offset, now_ms]`."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    offset: int
    #: The time this input brought: its record's timestamp, made monotone; what re-deriving uses as the clock.
    now_ms: Millis


class Rejected(Struct, frozen=True, kw_only=True, gc=False):
    """One input of the step that was refused and stands in its topic's dead-letter topic."""

    topic: int
    offset: int
    reason: str


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was decided about one task, with everything needed to explain it."""

    #: UUIDv5 of pool, seq and task: the same wherever and whenever it is derived.
    decision_id: str
    task_id: str
    pool: str
    outcome: DecisionOutcome
    reason_code: ReasonCode
    reason: str
    #: JSON object {model: {"gate": verdict, "score"?: number}} for every model of the pool's fleet.
    alternatives: Raw
    decided_at_ms: Millis
    at_ms: Millis
    attempt: int
    priority: int
    strategy: Strategy
    waiting_since_ms: Millis
    input_topic: str
    input_offset: int
    chosen_slot_id: str | None = None
    chosen_model: str | None = None
    tier: Tier | None = None
    layer: str | None = None
    lane: str | None = None
    agent_role: str | None = None
    task_type: str | None = None
    tenant_id: str | None = None
    complexity: Complexity | None = None
    objective: Objective | None = None
    ev: float | None = None
    #: Share of the window's samples below this EV, 0..1.
    ev_percentile: float | None = None
    p50: float | None = None
    p90: float | None = None
    lifted: bool = False
    #: The chosen slot's busy share over the last 5 min at the moment of choice, 0..1.
    utilisation: float | None = None
    estimated_cost_uusd: MicroUsd | None = None
    #: Against the catalogue's first premium model for everything.
    saved_vs_premium_uusd: MicroUsd | None = None
    #: Against the slot that had been free longest and whose model could do the work: first come, first served.
    saved_vs_next_free_uusd: MicroUsd | None = None
    #: Probability with which the policy would choose this slot again; 1 where nothing is random.
    propensity: float | None = None
    lease: int | None = None
    lease_expires_at_ms: Millis | None = None
    max_tokens: int | None = None
    #: Place in service order, from 1, of a waiting task.
    position: int | None = None
    traceparent: str | None = None
    tracestate: str | None = None


class Moment(Struct, frozen=True, array_like=True, gc=False):
    """One line of a task's story: `[at_ms, seq, what, detail]`."""

    at_ms: Millis
    seq: int
    what: str
    detail: str = ""


class Standing(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What changes about a task while it lives; its event never does."""

    state: TaskState
    attempt: int
    #: Failures, restarts and lost leases so far; policy bounds them.
    failures: int = 0
    #: Ageing and waits count from here: the producer's `at` at first, the moment of re-pending later.
    since_ms: Millis
    #: Accepted `now` of this attempt.
    accepted_ms: Millis
    #: The reason last announced while waiting.
    headline: ReasonCode | None = None
    #: Held until then by `not_before` or back-off.
    due_ms: Millis | None = None
    #: Lowest tier this attempt may use, raised by escalation.
    tier_min: Tier = 1
    slot_id: str | None = None
    lease: int | None = None
    #: The decision that routed it, joined by outcomes.
    decision_id: str | None = None
    #: A running task that was cancelled: its slot stays held until freed, its end is no retry.
    cancelled: bool = False
    story: tuple[Moment, ...] = ()


class TaskRow(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A task that is not finished: its event as sent, and where it stands."""

    task: TaskPending
    #: The producer's `at`.
    at_ms: Millis
    ev: float | None = None
    standing: Standing
    traceparent: str | None = None
    tracestate: str | None = None


class Moved(Struct, frozen=True, kw_only=True, gc=False):
    """A task known before this step stands elsewhere after it."""

    pool: str
    task_id: str
    standing: Standing


class Finished(Struct, frozen=True, kw_only=True, gc=False):
    """A task is over; its id is remembered for a while, so that a redelivery is a duplicate."""

    pool: str
    task_id: str
    at_ms: Millis
    what: str


class SlotRow(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A worker place as it stands after the step."""

    slot_id: str
    pool: str
    model: str
    account: str | None = None
    state: SlotState
    #: The number of its latest lease; only ever grows.
    lease: int = 0
    #: Since when it is in this state.
    since_ms: Millis
    task_id: str | None = None
    lease_expires_at_ms: Millis | None = None
    #: Finishes what it holds, gets nothing new.
    retired: bool = False


class SlotGone(Struct, frozen=True, array_like=True, gc=False):
    """A slot that is no longer of its pool: `[pool, slot_id, lease, at_ms]`; its lease number is remembered."""

    pool: str
    slot_id: str
    lease: int
    at_ms: Millis


class Percentiles(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What was the usual EV of a pool at the moment of computing; without quantiles: too few samples."""

    pool: str
    at_ms: Millis
    samples: int
    p50: float | None = None
    p90: float | None = None
    #: The 0th to the 100th percentile, 101 numbers; or none.
    quantiles: tuple[float, ...] = ()


class EvSample(Struct, frozen=True, array_like=True, gc=False):
    """One EV that became pending: `[pool, at_ms, ev]`."""

    pool: str
    at_ms: Millis
    ev: float


class WorkDone(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """An outcome that belongs to a decision: what the work cost and how it went."""

    decision_id: str
    pool: str
    slot_id: str
    model: str
    lease: int
    at_ms: Millis
    outcome: Outcome


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of the journal: inputs handled, decisions made, rows left behind. All or nothing."""

    v: int = STEP_VERSION
    partition: int
    #: Counts from 0 without a gap; the first record that carries a number wins it.
    seq: int
    now_ms: Millis
    mode: Mode = "live"
    policy: str
    catalog: str
    inputs: tuple[Accepted, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    decisions: tuple[Decision, ...] = ()
    #: Tasks that this step accepted and that live on.
    tasks: tuple[TaskRow, ...] = ()
    moved: tuple[Moved, ...] = ()
    finished: tuple[Finished, ...] = ()
    #: Tasks given up after their last attempt, with their story; they also stand in `finished`.
    dead: tuple[TaskRow, ...] = ()
    slots: tuple[SlotRow, ...] = ()
    slots_gone: tuple[SlotGone, ...] = ()
    evs: tuple[EvSample, ...] = ()
    percentiles: tuple[Percentiles, ...] = ()
    work: tuple[WorkDone, ...] = ()
    #: Control ids remembered by this step, so that a redelivery is ignored: (control_id, now_ms).
    controls: tuple[tuple[str, Millis], ...] = ()
    #: Cancels of tasks not seen yet: (pool, task_id, now_ms).
    cancels: tuple[tuple[str, str, Millis], ...] = ()
    #: Pools in which more headlines changed than could be told; a later step goes on.
    untold: tuple[str, ...] = ()
    #: Where the pools that were told changed headlines stand in their allowance: (pool, used up to).
    told: tuple[tuple[str, Millis], ...] = ()
    #: What was ignored or counted, by word: duplicates, stale frees, ...
    counts: dict[str, int] = {}
