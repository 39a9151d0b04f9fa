"""Records of the journal: steps, the decisions in them and the rows that they write.

A step is one record on `decision.audit`. Only the content of an accepted step has happened. A partition is a state
machine whose inputs are its steps. Times are milliseconds (`_ms`), money is micro-dollars (`_uusd`); the
layout is public and versioned (`v`), because auditors, followers and other languages read it.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Raw, Struct, field

from schemas.ends import Ended, Stopped
from schemas.events import Outcome, TaskPending
from schemas.marks import BreakerMark, DrainMark, ExhaustedMark, Mark, QuotaRow
from schemas.vocabulary import (
    Complexity,
    DecisionOutcome,
    MicroUsd,
    Millis,
    Mode,
    Objective,
    ReasonCode,
    Tier,
    Word,
)

STEP_VERSION = 2
#: Longest title of a task in a decision; its event in the journal has the whole one.
TITLE_CHARS_MAX = 200

TaskState = Literal["delayed", "waiting", "running"]
SlotState = Literal["free", "leased", "lost"]


class Accepted(Struct, frozen=True, array_like=True, gc=False):
    """One input of the step, in the order of handling: `[topic, offset, now_ms]`."""

    #: Index into `vocabulary.INPUT_TOPICS`.
    topic: int
    offset: int
    #: The clock of this input: its record's timestamp, made monotone. Replay uses it as the time.
    now_ms: Millis


class Rejected(Struct, frozen=True, kw_only=True, gc=False):
    """One input of the step that was refused; the record is in its topic's dead-letter topic."""

    topic: int
    offset: int
    reason: str


class Forwarded(Struct, frozen=True, kw_only=True, gc=False):
    """One input of the step whose key belongs to another partition; the record is there as well."""

    topic: int
    offset: int
    #: The partition that it was forwarded to.
    to: int


class Decision(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The decision about one task, with everything that explains it."""

    #: UUIDv5 of pool, seq and task, so that replay gives the same id; of a second life in one step with its number.
    decision_id: str
    task_id: str
    pool: str
    outcome: DecisionOutcome
    reason_code: ReasonCode
    reason: str
    #: JSON object {model: {"gate": verdict, "score"?: number, "out_of_reach"?: true, "behind"?: word,
    #: "breaker"?: true}} for every model of the pool's fleet; out of reach: it did not count as a cheaper model for the
    #: gate `premium`; behind: what put an admissible model with a free slot behind the chosen one
    #: (`vocabulary.Decisive`); breaker: a used up cap bars it.
    alternatives: Raw
    decided_at_ms: Millis
    at_ms: Millis
    attempt: int
    priority: int
    #: One of the shipped strategies, or the name of a plug-in's.
    strategy: Word
    waiting_since_ms: Millis
    input_topic: str
    input_offset: int
    chosen_slot_id: str | None = None
    chosen_model: str | None = None
    #: Of the chosen slot, and of its model.
    chosen_account: str | None = None
    chosen_provider: str | None = None
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
    #: Compared with the catalogue's first premium model for every task.
    saved_vs_premium_uusd: MicroUsd | None = None
    #: Compared with the slot that had been free longest and whose model could do the work (first come, first served).
    saved_vs_next_free_uusd: MicroUsd | None = None
    #: Probability with which the policy would choose this slot again; 1 where nothing is random.
    propensity: float | None = None
    lease: int | None = None
    lease_expires_at_ms: Millis | None = None
    #: How often the lease may be renewed.
    lease_renewals_max: int = 0
    max_tokens: int | None = None
    #: Place in service order, from 1, of a waiting task.
    position: int | None = None
    #: A second choice: the strategy's first one could do the work but was refused, or had no free slot.
    fallback: bool = False
    #: Worth an operator's look: `watching` (usage is high), `spending` (a cap of the cost breaker is nearly used up),
    #: `unknown_price`, `plugin_failed`, `patient` (old work).
    flags: tuple[str, ...] = ()
    #: Date of the price behind the estimate.
    priced_at: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    #: Of a routed task: number of the step that accepted it, whose `tasks` have its event; the payload stands only
    #: there. None: by an earlier version.
    accepted_seq: int | None = None
    #: Of its task, at most `TITLE_CHARS_MAX` characters; a cut one ends with an ellipsis. None: it has none, or by an
    #: earlier version.
    title: str | None = None


class HistoryEntry(Struct, frozen=True, array_like=True, gc=False):
    """One entry of a task's history: `[at_ms, seq, what, detail]`."""

    at_ms: Millis
    seq: int
    what: str
    detail: str = ""


class TaskStatus(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The part of a task that changes until it is finished; its event does not change."""

    state: TaskState
    attempt: int
    #: Failures, restarts and lost leases so far; policy bounds them.
    failures: int = 0
    #: Ageing and waits count from here: the producer's `at`, or the time when the task became pending again.
    since_ms: Millis
    #: Accepted `now` of this attempt.
    accepted_ms: Millis
    #: The reason last announced while waiting.
    headline: ReasonCode | None = None
    #: Delayed until then by `not_before` or back-off.
    due_ms: Millis | None = None
    #: Lowest tier this attempt may use, raised by escalation.
    tier_min: Tier = 1
    slot_id: str | None = None
    lease: int | None = None
    #: The decision that routed it; outcomes name it. Of a task that is pending again because its lease ended without
    #: a report: the decision whose late outcome would still count.
    decision_id: str | None = None
    #: A running task that was cancelled: its slot stays leased until it is freed, and the task is not tried again.
    cancelled: bool = False
    #: Amount reserved in its tenant's budget while it runs; None: no budget is concerned.
    reserved_uusd: MicroUsd | None = None
    history: tuple[HistoryEntry, ...] = field(default=(), name="story")


class Advice(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Answers of plug-ins about a task, asked when it arrived; replay reads them here and asks no plug-in."""

    #: Expected value from a scorer, for a task without one.
    ev: float | None = None
    #: Models in the order in which a plug-in's strategy would try them, and its name.
    strategy: str | None = None
    ranking: tuple[str, ...] = ()
    #: Models that a rule refuses, with its sentence.
    refused: dict[str, str] = {}
    #: Plug-ins that raised, gave an invalid answer or were too slow.
    failed: tuple[str, ...] = ()


class TaskRow(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A task that is not finished: its event as sent, and its status."""

    task: TaskPending
    #: The producer's `at`.
    at_ms: Millis
    ev: float | None = None
    status: TaskStatus = field(name="standing")
    traceparent: str | None = None
    tracestate: str | None = None
    #: Answers of plug-ins when it arrived.
    advice: Advice | None = None
    #: Number of the step that accepted it; None: by an earlier version.
    accepted_seq: int | None = None


class TaskChanged(Struct, frozen=True, kw_only=True, gc=False):
    """A task that was known before this step has another status after it."""

    pool: str
    task_id: str
    status: TaskStatus = field(name="standing")


class Finished(Struct, frozen=True, kw_only=True, gc=False):
    """A finished task; its id is remembered for a while, so that a redelivery is a duplicate.

    If it is in `tasks` of the same step too, it was sent again there and has begun a new life.
    """

    pool: str
    task_id: str
    at_ms: Millis
    what: str
    #: The `at` of its event, as sent; None: a version wrote the row that did not remember it.
    task_at_ms: Millis | None = None


class Duplicate(Struct, frozen=True, array_like=True, gc=False):
    """A task that was sent again after its end, and ignored: `[pool, task_id, at_ms, ended, ended_ms]`."""

    pool: str
    task_id: str
    #: When it was ignored.
    at_ms: Millis
    #: How and when the task had ended.
    ended: str
    ended_ms: Millis


class LastReport(Struct, frozen=True, array_like=True, gc=False):
    """The last accepted report of a slot: `[at_ms, accepted_ms, ce_source, ce_id]`; by it repeated ones are known."""

    #: The latest `at` of its reports, by the dispatcher's clock: it may be ahead of ours.
    at_ms: Millis
    accepted_ms: Millis
    ce_source: str | None = None
    ce_id: str | None = None


class Unreported(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Work whose lease ended without a report: what is needed to settle the outcome that its slot reports late."""

    decision_id: str
    #: Prices are those of the hour of the decision.
    decided_ms: Millis
    model: str
    #: Of its task what names it and what its cost depends on.
    task: TaskPending
    #: Amount that was reserved for it, and was released since; None: no budget was concerned.
    reserved_uusd: MicroUsd | None = None


class SlotRow(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A slot as it is after the step."""

    slot_id: str
    pool: str
    model: str
    account: str | None = None
    state: SlotState
    #: The number of its latest lease; only ever grows.
    lease: int = 0
    #: It is in this state since then.
    since_ms: Millis
    task_id: str | None = None
    lease_expires_at_ms: Millis | None = None
    #: How often it may still renew its lease.
    renewals_left: int = 0
    #: It finishes its task and gets no other.
    retired: bool = False
    last_report: LastReport | None = None
    #: It is lost when its last report is older; None: it did not ask for that.
    ttl_ms: int | None = None
    #: The work of its latest lease, where that ended without a report: until it is reported or the next lease begins.
    #: A leased slot has it when it has taken its task up again.
    unreported: Unreported | None = None


class SlotGone(Struct, frozen=True, array_like=True, gc=False):
    """A slot that left its pool: `[pool, slot_id, lease, at_ms, last_report, unreported]`; these are remembered."""

    pool: str
    slot_id: str
    lease: int
    at_ms: Millis
    last_report: LastReport | None = None
    unreported: Unreported | None = None


class Percentiles(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """EV percentiles of a pool at the time of computing; without quantiles: too few samples."""

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
    """An outcome that belongs to a decision: the cost and the result of the work."""

    decision_id: str
    pool: str
    slot_id: str
    model: str
    lease: int
    at_ms: Millis
    outcome: Outcome
    #: Cost: as reported, else by the tokens reported, else as estimated; None where no price is known.
    cost_uusd: MicroUsd | None = None


class Spent(Struct, frozen=True, array_like=True, omit_defaults=True, gc=False):
    """What finished work cost, where the policy caps spend: `[pool, at_ms, uusd, tenant_id, lane]`."""

    pool: str
    at_ms: Millis
    uusd: MicroUsd
    tenant_id: str | None = None
    lane: str | None = None


class LedgerRow(Struct, frozen=True, gc=False):
    """A tenant's money in one pool: available + reserved + consumed = credited, always."""

    pool: str
    tenant_id: str
    credited_uusd: MicroUsd
    available_uusd: MicroUsd
    reserved_uusd: MicroUsd
    consumed_uusd: MicroUsd


class MoneyMovement(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One movement in a ledger, so that its sums can be checked."""

    pool: str
    tenant_id: str
    kind: Literal["credit", "reserve", "settle", "release"]
    #: Credited, reserved, consumed or given back; a settlement may differ from what was reserved.
    amount_uusd: MicroUsd
    at_ms: Millis
    #: The decision that reserved, or the control that credited.
    decision_id: str | None = None
    control_id: str | None = None


class ControlTaken(Struct, frozen=True, kw_only=True, gc=False):
    """An operator's event in this step; its id is remembered, so that a redelivery is ignored."""

    control_id: str
    at_ms: Millis
    kind: str
    #: The event as JSON, without the texts of a policy, which are in `Activated`.
    event: Raw


class Activated(Struct, frozen=True, kw_only=True, gc=False):
    """Policy and catalogue by which the partition decides from this step on, instead of the worker's files."""

    policy: str
    catalog: str
    policy_text: str
    catalog_text: str
    ev_window_ms: int
    finished_memory_ms: int


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One record of the journal: inputs, decisions and the rows that they write. All or nothing."""

    v: int = STEP_VERSION
    #: Id of the journal that the step belongs to; a journal that is created again has another. Absent in old journals.
    journal: str | None = None
    partition: int
    #: Counts from 0 without a gap. The first record with a number counts; later ones with it are ignored.
    seq: int
    now_ms: Millis
    mode: Mode = "live"
    policy: str
    catalog: str
    inputs: tuple[Accepted, ...] = ()
    rejected: tuple[Rejected, ...] = ()
    forwarded: tuple[Forwarded, ...] = ()
    decisions: tuple[Decision, ...] = ()
    #: Tasks that this step accepted and that are not finished.
    tasks: tuple[TaskRow, ...] = ()
    tasks_changed: tuple[TaskChanged, ...] = field(default=(), name="moved")
    finished: tuple[Finished, ...] = ()
    #: Ends of tasks and of work, as they are announced; absent in old journals.
    ended: tuple[Ended, ...] = ()
    stopped: tuple[Stopped, ...] = ()
    #: Tasks given up after their last attempt, with their history, without payload; they are also in `finished`.
    dead: tuple[TaskRow, ...] = ()
    slots: tuple[SlotRow, ...] = ()
    slots_gone: tuple[SlotGone, ...] = ()
    evs: tuple[EvSample, ...] = ()
    percentiles: tuple[Percentiles, ...] = ()
    work: tuple[WorkDone, ...] = ()
    controls: tuple[ControlTaken, ...] = ()
    exhausted: tuple[ExhaustedMark, ...] = ()
    drains: tuple[DrainMark, ...] = ()
    quotas: tuple[QuotaRow, ...] = ()
    breakers: tuple[BreakerMark, ...] = ()
    spent: tuple[Spent, ...] = ()
    ledgers: tuple[LedgerRow, ...] = ()
    money: tuple[MoneyMovement, ...] = ()
    activated: Activated | None = None
    #: Answers of plug-ins about this step's inputs: (index into `inputs`, advice).
    advice: tuple[tuple[int, Advice], ...] = ()
    #: Cancels of tasks not seen yet: (pool, task_id, now_ms).
    cancels: tuple[tuple[str, str, Millis], ...] = ()
    #: Tasks that had ended and may be sent again, after their end: (pool, task_id).
    retried: tuple[tuple[str, str], ...] = ()
    #: Pools in which more headlines changed than one step announces; a later step continues.
    unannounced: tuple[str, ...] = field(default=(), name="untold")
    #: Use of the announcement allowance by pool: (pool, used up to).
    announced: tuple[tuple[str, Millis], ...] = field(default=(), name="told")
    #: Tasks sent again after their end that are no new lives.
    duplicates: tuple[Duplicate, ...] = ()
    #: Counts of ignored inputs and other events, by word: duplicates, stale frees, ...
    counts: dict[str, int] = {}

    @property
    def marks(self) -> tuple[Mark, ...]:
        """Marks of every kind."""
        return (*self.exhausted, *self.drains, *self.quotas, *self.breakers)
