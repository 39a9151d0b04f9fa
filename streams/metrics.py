"""Every metric of a worker, in one list: name, help and labels. The pages and the documentation read this list."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from schemas.vocabulary import INPUT_TOPICS, TASK_PENDING

REGISTRY = CollectorRegistry()

_SECONDS = (0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
#: Pools and tenants come from producers: beyond these numbers further ones share the label `other`.
POOLS_MAX = 200
TENANTS_MAX = 500
LANES_MAX = 200

BUILD = Gauge("router_build_info", "1, with the version that runs.", ["version"], registry=REGISTRY)
# What is decided.
DECISIONS = Counter("router_decisions_total", "Decisions journaled.", ["outcome", "reason", "pool"], registry=REGISTRY)
ROUTED = Counter(
    "router_routed_total",
    "Tasks routed, by strategy, and whether its first choice was refused (exhausted to credit) or busy.",
    ["pool", "strategy", "fallback"],
    registry=REGISTRY,
)
ESTIMATED = Counter(
    "router_estimated_usd_total",
    "Estimated cost of the tasks routed: as slotwise chose, and as always_premium and next_free would have.",
    ["pool", "choice"],
    registry=REGISTRY,
)
COST = Counter("router_cost_usd_total", "Cost of finished work, as settled.", ["pool", "model"], registry=REGISTRY)
ROUTER_ERRORS = Counter(
    "router_errors_total", "Tasks that the static fallback routed, because the policy failed on them.", ["pool"],
    registry=REGISTRY,
)  # fmt: skip
DECISION_SECONDS = Histogram(
    "router_decision_duration_seconds",
    "Time the pure router takes for one step, per input.",
    registry=REGISTRY,
    buckets=(0.000005, 0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.01, 0.1),
)
EVENT_TO_DECISION_SECONDS = Histogram(
    "router_event_to_decision_seconds",
    "From the time of an input's record to the acknowledgement of its step.",
    registry=REGISTRY,
    buckets=_SECONDS,
)
LAST_EVENT = Gauge(
    "router_last_event_timestamp_seconds", "Time of the newest input handled.", ["partition"], registry=REGISTRY
)
COUNTED = Counter(
    "router_counts_total", "Events counted by steps, by word, ignored inputs among them.", ["what"], registry=REGISTRY
)
# What is refused or dropped.
DUPLICATES = Counter(
    "router_duplicates_total", "Inputs delivered again and dropped by position.", ["topic"], registry=REGISTRY
)
DUPLICATE_TASKS = Counter(
    "router_duplicate_tasks_total",
    "Tasks sent again after their end and ignored; `slotwise explain` of a task lists its own.",
    ["pool"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "router_dead_letters_total", "Inputs refused to a dead-letter topic.", ["topic"], registry=REGISTRY
)
FORWARDED = Counter(
    "router_forwarded_total",
    "Inputs on a partition that is not their key's, forwarded to the one that is.",
    ["topic"],
    registry=REGISTRY,
)
REFETCHED = Counter(
    "router_refetched_total", "Inputs that delivery left out and the side reader fetched.", ["topic"], registry=REGISTRY
)
INVARIANT_VIOLATIONS = Counter(
    "router_invariant_violations_total",
    "Broken invariants, by name; alert on any.",
    ["id"],
    registry=REGISTRY,
)
# Plug-ins.
PLUGIN_FAILURES = Counter(
    "router_plugin_failures_total",
    "Tasks about which a plug-in gave no answer: it raised, gave an invalid answer, was slow, or was disabled.",
    ["role", "plugin", "kind"],
    registry=REGISTRY,
)
PLUGIN_SECONDS = Histogram(
    "router_plugin_duration_seconds",
    "Time a plug-in took for a task.",
    ["role", "plugin"],
    registry=REGISTRY,
    buckets=(0.00001, 0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0),
)
# The journal.
STEPS = Counter("router_steps_total", "Steps journaled by this worker.", registry=REGISTRY)
STEP_BYTES = Counter("router_step_bytes_total", "Bytes of those steps.", registry=REGISTRY)
APPEND_SECONDS = Histogram(
    "router_journal_append_seconds",
    "Time from sending a step to its acknowledgement.",
    registry=REGISTRY,
    buckets=_SECONDS,
)
APPEND_ERRORS = Counter(
    "router_journal_append_errors_total", "Appends that failed or whose outcome is unknown.", registry=REGISTRY
)
FENCED = Counter(
    "router_fenced_steps_total", "Journal records ignored because their number was taken.", registry=REGISTRY
)
CHECKPOINTS = Counter("router_checkpoints_total", "Checkpoints written, by result.", ["result"], registry=REGISTRY)
OLDEST_UNJOURNALED = Gauge(
    "router_oldest_unjournaled_seconds", "Age of the oldest input that arrived and is not journaled.", registry=REGISTRY
)
INPUT_LAG = Gauge(
    "router_input_lag_records", "Inputs that exist and are not journaled.", ["topic", "partition"], registry=REGISTRY
)
INPUT_LAG_SECONDS = Gauge(
    "router_input_lag_seconds", "Age of the oldest of them; 0: none.", ["topic", "partition"], registry=REGISTRY
)
RECOVERY_REMAINING = Gauge(
    "router_recovery_remaining_records", "Journal records still to be read before the partition works.", ["partition"],
    registry=REGISTRY,
)  # fmt: skip
CLOCK_AHEAD = Gauge(
    "router_clock_ahead_seconds",
    "How far this machine's clock is ahead of the broker's, as the last tick showed; negative: behind.",
    registry=REGISTRY,
)
# Outputs and the group.
PUBLISHED = Counter("router_published_total", "Records published from the journal.", ["topic"], registry=REGISTRY)
PUBLISH_LAG = Gauge(
    "router_publish_lag_records", "Journal records not yet published.", ["partition"], registry=REGISTRY
)
PUBLISH_LAG_SECONDS = Gauge(
    "router_publish_lag_seconds", "Age of the oldest of them; 0: none.", ["partition"], registry=REGISTRY
)
TABLES_LAG = Gauge(
    "router_tables_lag_records", "Journal records that the tables do not have yet.", ["partition"], registry=REGISTRY
)
REBALANCES = Counter("router_rebalances_total", "Rebalances of the worker's group.", registry=REGISTRY)
PARTITIONS = Gauge("router_partitions", "Partitions this worker works on.", registry=REGISTRY)

INSTALLED = Gauge(
    "router_partitions_installed", "Partitions of the installation, all workers together.", registry=REGISTRY
)
#: Of the partitions of this worker; `views/lag_gauges.py` computes them when the metrics are read.
OF_LAG = (INPUT_LAG, INPUT_LAG_SECONDS, PUBLISH_LAG, PUBLISH_LAG_SECONDS, TABLES_LAG)

# The fleet in the partitions of this worker; `views/gauges.py` computes them when the metrics are read.
WAITING = Gauge(
    "slotwise_waiting_tasks", "Waiting tasks, by the headline last announced.", ["pool", "headline"], registry=REGISTRY
)
WAITING_OLDEST = Gauge(
    "slotwise_waiting_oldest_seconds", "Longest wait of a waiting task.", ["pool"], registry=REGISTRY
)
WAITING_POINTS = Gauge(
    "slotwise_waiting_points_max",
    "Greatest aged points of a waiting task (priority and waiting), exact or one more; see slotwise_patience_points.",
    ["pool"],
    registry=REGISTRY,
)
PATIENCE_POINTS = Gauge(
    "slotwise_patience_points",
    "Points from which on a task is served beside lifted ones; tasks far above it are starving.",
    registry=REGISTRY,
)
SLOTS = Gauge(
    "slotwise_slots",
    "Slots: free, leased, lost, or retired and not done yet; held is a deprecated copy of leased, gone in 0.2.0.",
    ["pool", "model", "state"],
    registry=REGISTRY,
)
MARKS = Gauge(
    "slotwise_marks_active",
    "1 for each mark in force: an exhausted product, or a drained model; without account: for all.",
    ["pool", "kind", "of", "account"],
    registry=REGISTRY,
)
QUOTA_USED = Gauge(
    "slotwise_quota_used_share", "Used share of a product's window, 0 to 1, as last reported.",
    ["pool", "product", "account", "window"], registry=REGISTRY,
)  # fmt: skip
BUDGET_AVAILABLE = Gauge(
    "slotwise_budget_available_usd", "Available amount of a tenant's budget.", ["pool", "tenant"], registry=REGISTRY
)
BUDGET_RESERVED = Gauge(
    "slotwise_budget_reserved_usd", "Amount reserved for a tenant's running tasks.", ["pool", "tenant"],
    registry=REGISTRY,
)  # fmt: skip
BREAKER_SPENT = Gauge(
    "slotwise_breaker_spent_share",
    "Spend of the last hour as a share of its cap, from the policy's warn_share on; of tenant, lane or pool.",
    ["pool", "of", "name"],
    registry=REGISTRY,
)
LANE_STATE = Gauge(
    "slotwise_lane_state",
    "1 for the state of a lane by this worker's decisions of an hour: idle, healthy, elevated_fallback, degraded.",
    ["lane", "state"],
    registry=REGISTRY,
)
OF_THE_FLEET = (
    WAITING, WAITING_OLDEST, WAITING_POINTS, SLOTS, MARKS, QUOTA_USED, BUDGET_AVAILABLE, BUDGET_RESERVED, BREAKER_SPENT,
    LANE_STATE,
)  # fmt: skip

# A counter that begins with its first event shows no increase: what is alerted on by increase begins with 0.
for _topic in INPUT_TOPICS:
    DEAD_LETTERS.labels(_topic)
PUBLISHED.labels(f"{TASK_PENDING}.dlq")

_pools: set[str] = set()
_tenants: set[str] = set()
_lanes: set[str] = set()


def pool_label(pool: str) -> str:
    """Return the pool as a label value, or `other` when there are too many."""
    return _bounded(pool, _pools, POOLS_MAX)


def tenant_label(tenant: str) -> str:
    """Return the tenant as a label value, or `other` when there are too many."""
    return _bounded(tenant, _tenants, TENANTS_MAX)


def lane_label(lane: str) -> str:
    """Return the lane as a label value, or `other` when there are too many."""
    return _bounded(lane, _lanes, LANES_MAX)


def _bounded(word: str, known: set[str], words_max: int) -> str:
    if word in known:
        return word
    if len(known) < words_max:
        known.add(word)
        return word
    return "other"


def render() -> bytes:
    """Return the page that Prometheus reads."""
    return generate_latest(REGISTRY)
