"""Events of the wire contract, one frozen struct a record: what arrives and what leaves.

`codec.py` decodes bytes into these structs, or returns a reason why it cannot. Field names are public and change only
with a new schema version. Unknown fields are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from msgspec import Meta, Struct

from schemas.vocabulary import (
    TASK_AWAIT_SLOT,
    TASK_CANCELLED,
    TASK_FINISHED,
    TASK_ROUTED,
    Bar,
    Complexity,
    Count,
    Dimension,
    FinishStatus,
    Fit,
    Id,
    JsonText,
    Mode,
    Objective,
    OnFailure,
    OutcomeStatus,
    Percent,
    Profile,
    ProposalStep,
    ReasonCode,
    Ref,
    Share,
    SlotReport,
    StepOutcome,
    StopReason,
    Strategy,
    Text,
    Tier,
    Time,
    Tokens,
    Verdict,
    Word,
)

Labels = Annotated[
    dict[Annotated[str, Meta(min_length=1, max_length=64)], Annotated[str, Meta(max_length=256)]], Meta(max_length=32)
]
Names = Annotated[tuple[Word, ...], Meta(max_length=1000)]


class Affinity(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a task has context already: a slot, or any slot of an account."""

    slot_id: Id | None = None
    account: Id | None = None


class TaskPending(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One unit of agent work that wants a slot (topic `task.pending`)."""

    task_id: Id
    pool: Id
    #: The producer's time of the event. Waits are counted from it; it is not the router's clock.
    at: Time
    title: Text = ""
    #: Rating a model must reach, by dimension; all of them must be met.
    requires: dict[Dimension, Bar] = {}
    priority: Percent = 50
    #: Priority of the quest that the task belongs to; from 95 on the task is lifted.
    quest_priority: Percent = 0
    #: Expected value of doing the task. Absent: computed from the four ingredients, else unknown.
    ev: float | None = None
    #: With tractability, impact and estimated_cost: `ev` is their product by cost where it is not given.
    importance: float | None = None
    #: How likely the task is to succeed, in the producer's own measure.
    tractability: float | None = None
    #: Value of a success to later work, in the producer's own measure.
    impact: float | None = None
    #: What the EV is divided by; 0 leaves it unknown.
    estimated_cost: float | None = None
    #: Part of the organisation it belongs to; for reports.
    layer: Word | None = None
    #: The producer's stream of work; policy may differ by lane.
    lane: Word | None = None
    #: Role of the agent that will do it.
    agent_role: Word | None = None
    #: Kind of work, such as `code` or `writing`.
    task_type: Word | None = None
    #: Sets the lowest tier, the answer's length and the lease.
    complexity: Complexity | None = None
    #: How long the answer is to be, in words, not tokens.
    output_length_target: Tokens | None = None
    has_revision_history: bool = False
    context_richness: Share | None = None
    requires_reasoning: bool = False
    #: Tokens of the prompt.
    input_tokens: Tokens = 0
    #: Expected tokens of the answer.
    output_tokens: Tokens | None = None
    #: The tenant whose budget pays.
    tenant_id: Word | None = None
    #: Routing may go to this model's tier or above, never below.
    floor_model: Word | None = None
    strategy: Strategy | None = None
    objective: Objective | None = None
    profile: Profile | None = None
    #: Highest tier it may use.
    max_tier: Tier | None = None
    #: If given, only models of these providers.
    allow_providers: Names = ()
    #: No model of these providers.
    deny_providers: Names = ()
    #: Only models that run locally.
    local_only: bool = False
    #: A task that still waits then expires.
    deadline: Time | None = None
    #: Delayed until then; ageing counts from there.
    not_before: Time | None = None
    #: Number of the first attempt; counts on from here.
    attempt: Annotated[int, Meta(ge=1, le=1000)] = 1
    #: Where the task has context already.
    affinity: Affinity | None = None
    #: After a reported failure: one tier higher, again, or never.
    on_failure: OnFailure = "retry"
    #: How long its lease lasts, instead of the length of its class; at most the policy's `leases.asked_max_s`.
    lease_s: Annotated[float, Meta(ge=1.0, le=604_800.0)] | None = None
    #: Where the work is described. Like `labels` and `payload` it decides nothing, and is handed to the dispatcher.
    ref: Ref | None = None
    #: Short texts by name.
    labels: Labels = {}
    #: Any JSON, of at most so many bytes as the policy's `service.payload_bytes_max` says. It never enters the audit.
    payload: JsonText | None = None


class Outcome(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """How the work on a slot ended, reported when the slot is freed."""

    task_id: Id
    status: OutcomeStatus
    #: Tokens of the prompt, those from the vendor's cache among them.
    input_tokens: Tokens | None = None
    #: Tokens of the answer, those of thinking among them.
    output_tokens: Tokens | None = None
    #: The part of `input_tokens` that came from the vendor's cache.
    cached_input_tokens: Tokens | None = None
    #: The part of `output_tokens` that the model thought and did not say.
    reasoning_tokens: Tokens | None = None
    #: What the work cost, of all its requests; the tokens then decide nothing.
    cost_usd: Annotated[float, Meta(ge=0.0, le=1e9)] | None = None
    latency_s: Annotated[float, Meta(ge=0.0, le=1e9)] | None = None
    quality: Share | None = None
    accepted: bool | None = None
    #: Of a failure: your word for it. `rate_limited`, `overloaded` and `quota` are no attempt of the task: it waits,
    #: and the slot's product is exhausted until `retry_at`.
    error_class: Word | None = None
    #: When the vendor takes work again, at most 7 days from now; absent or past: after the policy's pause.
    retry_at: Time | None = None
    fit: Fit | None = None


class SlotFreed(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A slot reports: it announces itself, or is free again (topic `slot.freed`)."""

    slot_id: Id
    pool: Id
    #: By the dispatcher's clock; it goes forward from report to report of one slot.
    at: Time
    #: Required when the router does not know the slot yet.
    model: Word | None = None
    account: Id | None = None
    #: Number of the lease that ends, or is renewed; absent on a first announcement and after a restart.
    lease: Count | None = None
    outcome: Outcome | None = None
    #: `free`: it is there, or free again. `working`: it works on, and renews its `lease`. `idle`: it still is free.
    #: `leaving`: it finishes what it works on, and takes no more.
    state: SlotReport = "free"
    #: Asks for the heartbeat rule: a slot that reports nothing for so many seconds, free or leased, is lost. An
    #: announcement without it ends the rule.
    ttl_s: Annotated[float, Meta(ge=1.0, le=86_400.0)] | None = None


class Control(Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind"):
    """Fields of every operator event (topic `fleet.control`). With `pool` it concerns that pool, else all pools."""

    control_id: Id
    at: Time
    by: Word
    pool: Id | None = None


class ModelExhausted(Control, frozen=True, kw_only=True, tag="model.exhausted"):
    """Marks a product as exhausted until a time."""

    until: Time
    product: Word | None = None
    model: Word | None = None
    account: Id | None = None


class ModelRestored(Control, frozen=True, kw_only=True, tag="model.restored"):
    """Ends exhausted marks, drains and reported quotas of the product, model or account that is named."""

    product: Word | None = None
    model: Word | None = None
    account: Id | None = None


class ModelDrained(Control, frozen=True, kw_only=True, tag="model.drained"):
    """Takes a model out of service, without end or until a time."""

    model: Word
    until: Time | None = None


class QuotaUpdated(Control, frozen=True, kw_only=True, tag="quota.updated"):
    """Usage of one window of one account, as the provider reports it. Of one window the newest `at` counts."""

    provider: Word
    product: Word
    window: Word
    #: Used share: 0.83 is 83 %. Up to 1.05 counts as 1; more is refused, because it is a percentage.
    utilisation: Annotated[float, Meta(ge=0.0, le=1.05)]
    account: Id | None = None
    #: Reset of the window, from which this report says nothing. Absent: by the policy's `quota.unknown_reset_s`.
    resets_at: Time | None = None
    status: Word | None = None


class BreakerOpened(Control, frozen=True, kw_only=True, tag="breaker.opened"):
    """Suspends a cap of the cost breaker until a time: that of a tenant, of a lane, or of the pool itself."""

    #: A time that has passed puts the cap in force again.
    until: Time
    tenant_id: Word | None = None
    lane: Word | None = None


class BudgetCredited(Control, frozen=True, kw_only=True, tag="budget.credited"):
    """A tenant's budget in one pool grows, or shrinks when negative."""

    tenant_id: Word
    pool: Id
    amount_usd: Annotated[float, Meta(ge=-1e9, le=1e9)]


class PolicyActivated(Control, frozen=True, kw_only=True, tag="policy.activated"):
    """Another policy and catalogue take over."""

    policy: Word
    catalog: Word
    #: TOML of the whole policy, as the command sends it: the router adds no shipped value to what it leaves out.
    policy_text: Annotated[str, Meta(max_length=131_072)] | None = None
    catalog_text: Annotated[str, Meta(max_length=131_072)] | None = None


class PolicyProposed(Control, frozen=True, kw_only=True, tag="policy.proposed"):
    """A step towards another policy and catalogue was taken, refused, or failed; it decides nothing."""

    policy: Word
    catalog: Word
    step: ProposalStep
    #: `refused`: by the person who was asked.
    outcome: StepOutcome
    #: What it came to, in a sentence or two.
    found: Text = ""


class TaskCancelled(Control, frozen=True, kw_only=True, tag="task.cancelled"):
    """The producer no longer wants the task done."""

    pool: Id
    task_id: Id


class TaskRetried(Control, frozen=True, kw_only=True, tag="task.retried"):
    """A task that has ended, in whatever way, is done again when its event comes again: its id counts as new."""

    pool: Id
    task_id: Id


class SlotRetired(Control, frozen=True, kw_only=True, tag="slot.retired"):
    """A slot finishes its task and gets no other."""

    pool: Id
    slot_id: Id


class LaneRestarted(Control, frozen=True, kw_only=True, tag="lane.restarted"):
    """A stream of work was restarted: its health is judged from here on. Tasks in flight are not touched."""

    lane: Word


class Tick(Control, frozen=True, kw_only=True, tag="tick"):
    """Time has passed: something is due and no other input came. Sent by a partition's worker to its own partition."""


FleetControl = (
    ModelExhausted
    | ModelRestored
    | ModelDrained
    | QuotaUpdated
    | BreakerOpened
    | BudgetCredited
    | PolicyActivated
    | PolicyProposed
    | TaskCancelled
    | TaskRetried
    | SlotRetired
    | LaneRestarted
    | Tick
)
Event = TaskPending | SlotFreed | FleetControl


class TaskRouted(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task has a slot (topic `task.routed`). Delivered at least once, in order per pool; dedupe by `decision_id`."""

    decision_id: str
    task_id: Id
    pool: Id
    slot_id: Id
    model: Word
    tier: Tier
    #: Sent back by the slot when it is done; a smaller number than the slot's latest is stale.
    lease: Count
    lease_expires_at: Time
    #: How often the slot may renew the lease, each time for its whole length from then on.
    lease_renewals_max: int = 0
    max_tokens: Tokens
    reason: Text
    attempt: int
    decided_at: Time
    mode: Mode
    policy: str
    catalog: str
    #: Account of the slot.
    account: Id | None = None
    #: Provider of the model.
    provider: Word | None = None
    #: As the task's producer sent it, like all that follows: a dispatcher needs no second source.
    title: Text = ""
    tenant_id: Word | None = None
    agent_role: Word | None = None
    task_type: Word | None = None
    input_tokens: Tokens = 0
    deadline: Time | None = None
    ref: Ref | None = None
    labels: Labels = {}
    payload: JsonText | None = None


class TaskAwaitSlot(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task waits, or its wait ended without a slot (topic `task.await_slot`)."""

    decision_id: str
    task_id: Id
    pool: Id
    reason_code: ReasonCode
    reason: Text
    verdicts: dict[Word, Verdict]
    waiting_since: Time
    decided_at: Time
    mode: Mode
    #: Place in service order, from 1; absent when the wait is over.
    position: int | None = None


class WorkCancelled(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A slot is to stop: its task was cancelled, or its lease has ended (topic `task.cancelled`)."""

    task_id: Id
    pool: Id
    slot_id: Id
    #: The one that its `task.routed` carried.
    lease: Count
    reason_code: StopReason
    at: Time
    #: The decision that routed the task to the slot.
    decision_id: str | None = None


class TaskFinished(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A task is over, done or not (topic `task.finished`)."""

    task_id: Id
    pool: Id
    status: FinishStatus
    #: Attempts that were begun, those before it was sent among them (`attempt` of the task).
    attempts: int
    at: Time
    #: The decision that its last work ran under; of a task that ended while it waited, the one that says so.
    decision_id: str | None = None
    #: Slot and model of its last work, where they are known.
    slot_id: Id | None = None
    model: Word | None = None
    #: Of its last work, as the ledger has it: reported, else by tokens, else as estimated.
    cost_usd: float | None = None
    #: As the slot reported it, like `quality`.
    latency_s: float | None = None
    quality: Share | None = None
    #: Why it ended without success.
    reason: Text = ""


Output = TaskRouted | TaskAwaitSlot | WorkCancelled | TaskFinished
#: What each of the topics `vocabulary.OUTPUT_TOPICS` has.
OUTPUTS: Final[Mapping[str, type[Output]]] = {
    TASK_ROUTED: TaskRouted,
    TASK_AWAIT_SLOT: TaskAwaitSlot,
    TASK_CANCELLED: WorkCancelled,
    TASK_FINISHED: TaskFinished,
}
