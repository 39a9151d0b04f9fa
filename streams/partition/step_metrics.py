"""What one journaled step adds to the metrics."""

from __future__ import annotations

from collections import Counter

from schemas.decision import Step
from schemas.vocabulary import INPUT_TOPICS, Millis
from streams import metrics
from streams.lane_window import LANES


def observe(step: Step, *, step_bytes: int, append_s: float, clock_ms: Millis) -> None:
    """Count a step that the journal acknowledged after `append_s`."""
    metrics.STEPS.inc()
    metrics.STEP_BYTES.inc(step_bytes)
    metrics.APPEND_SECONDS.observe(append_s)
    metrics.LAST_EVENT.labels(str(step.partition)).set(step.now_ms / 1000)
    metrics.EVENT_TO_DECISION_SECONDS.observe(max(0, clock_ms - step.inputs[0].now_ms) / 1000)
    for one in step.rejected:
        metrics.DEAD_LETTERS.labels(INPUT_TOPICS[one.topic]).inc()
    for forward in step.forwarded:
        metrics.FORWARDED.labels(INPUT_TOPICS[forward.topic]).inc()
    decided = Counter((one.outcome, one.reason_code, metrics.pool_label(one.pool)) for one in step.decisions)
    for labels, count in decided.items():
        metrics.DECISIONS.labels(*labels).inc(count)
    routed = Counter((one.pool, one.strategy, one.fallback) for one in step.decisions if one.outcome == "routed")
    for (pool, strategy, fallback), count in routed.items():
        metrics.ROUTED.labels(metrics.pool_label(pool), strategy, str(fallback).lower()).inc(count)
    _observe_money(step)
    failed = Counter(one.pool for one in step.decisions if one.reason_code == "router_error")
    for pool, count in failed.items():
        metrics.ROUTER_ERRORS.labels(metrics.pool_label(pool)).inc(count)
    for pool, count in Counter(one.pool for one in step.duplicates).items():
        metrics.DUPLICATE_TASKS.labels(metrics.pool_label(pool)).inc(count)
    LANES.add(step)
    for what, count in step.counts.items():
        metrics.COUNTED.labels(what).inc(count)


def _observe_money(step: Step) -> None:
    for one in step.decisions:
        if one.outcome != "routed" or one.estimated_cost_uusd is None:
            continue
        pool, uusd = metrics.pool_label(one.pool), one.estimated_cost_uusd
        for choice, more in (
            ("slotwise", 0),
            ("always_premium", one.saved_vs_premium_uusd or 0),
            ("next_free", one.saved_vs_next_free_uusd or 0),
        ):
            # A counter never falls, and no cost is below 0.
            metrics.ESTIMATED.labels(pool, choice).inc(max(0, uusd + more) / 1e6)
    for done in step.work:
        metrics.COST.labels(metrics.pool_label(done.pool), done.model).inc((done.cost_uusd or 0) / 1e6)
