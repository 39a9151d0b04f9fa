"""Gauges of the fleet for Prometheus: waiting tasks, slots, marks, quotas and budgets.

They are computed when the metrics are read, from the state of this worker's partitions. The cost grows with slots,
marks and tenants, not with the number of waiting tasks.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from schemas.vocabulary import Millis
from streams import metrics
from streams.core.index.waits import waits
from streams.core.router import Router
from streams.lane_window import LANES, LaneCounts
from streams.views.lane_state import LANE_STATES, LaneState, lane_state

if TYPE_CHECKING:
    from prometheus_client import Gauge

    from streams.core.index.pool_index import PoolIndex
    from streams.core.state.pool import Pool


def show(routers: Sequence[Router], now_ms: Millis) -> None:
    """Set the gauges from these partitions; call it on the event loop, where no step is half applied."""
    seen = _Gauges()
    for router in routers:
        seen.look(router, Millis(max(now_ms, router.now_ms)))
    seen.look_at_lanes(LANES.lanes(now_ms, {router.state.number for router in routers}))
    for gauge in metrics.OF_THE_FLEET:
        gauge.clear()
    for (gauge, labels), value in seen.values.items():
        gauge.labels(*labels).set(value)
    if routers:
        metrics.PATIENCE_POINTS.set(min(router.rulebook.patience_points for router in routers))


class _Gauges:
    """Values by gauge and labels. Pools that share a label share the sum, or the worst value."""

    def __init__(self) -> None:
        self.values: defaultdict[tuple[Gauge, tuple[str, ...]], float] = defaultdict(float)

    def look(self, router: Router, now_ms: Millis) -> None:
        """Add one partition."""
        for name, index in router.indexes.items():
            self._look_at_waits(metrics.pool_label(name), index, now_ms)
            self._look_at_caps(metrics.pool_label(name), index, now_ms)
        for name, pool in router.state.pools.items():
            # A pool that was only named by a refused event has the marks of all pools, and no slot or task.
            if not pool.is_empty():
                self._look_at_fleet(metrics.pool_label(name), pool, now_ms)

    def look_at_lanes(self, lanes: Mapping[str, LaneCounts]) -> None:
        """Add the state of each lane; lanes that share a label share its worst state."""
        worst: dict[str, LaneState] = {}
        for lane, one in lanes.items():
            label, state = (
                metrics.lane_label(lane),
                lane_state(one.decisions, one.routed, one.router_errors, one.fallbacks),
            )
            worst[label] = max(worst.get(label, state), state, key=LANE_STATES.index)
        for label, state in worst.items():
            self.values[metrics.LANE_STATE, (label, state)] = 1

    def _look_at_waits(self, pool: str, index: PoolIndex, now_ms: Millis) -> None:
        found = waits(index, now_ms)
        if found is None:
            return
        for headline, count in found.by_headline.items():
            self.values[metrics.WAITING, (pool, headline)] += count
        self._worst(metrics.WAITING_OLDEST, pool, (now_ms - found.oldest_ms) / 1000)
        self._worst(metrics.WAITING_POINTS, pool, found.points_max)

    def _look_at_caps(self, pool: str, index: PoolIndex, now_ms: Millis) -> None:
        for reading in index.breaker.readings(now_ms):
            of, name = reading.scope
            label = {"tenant": metrics.tenant_label, "pool": metrics.pool_label}.get(of, metrics.lane_label)(name)
            labels = (metrics.BREAKER_SPENT, (pool, of, label))
            self.values[labels] = max(self.values[labels], (reading.spent_uusd or 0) / reading.cap_uusd)

    def _look_at_fleet(self, name: str, pool: Pool, now_ms: Millis) -> None:
        for slot in pool.slots.values():
            state = "retired" if slot.retired else slot.state
            self.values[metrics.SLOTS, (name, slot.model, state)] += 1
            if state == "leased":
                # The label value before `leased`; gone in 0.2.0.
                self.values[metrics.SLOTS, (name, slot.model, "held")] += 1
        marks = pool.marks
        for (product, account), until_ms in marks.exhausted.items():
            if until_ms > now_ms:
                self.values[metrics.MARKS, (name, "exhausted", product, account or "")] = 1
        for model, ends_ms in marks.drained.items():
            if ends_ms is None or ends_ms > now_ms:
                self.values[metrics.MARKS, (name, "drained", model, "")] = 1
        for (product, account, window), row in marks.quotas.items():
            reset = row.resets_at_ms is not None and row.resets_at_ms <= now_ms
            self.values[metrics.QUOTA_USED, (name, product, account or "", window)] = 0.0 if reset else row.utilisation
        for tenant, ledger in pool.ledgers.items():
            labels = (name, metrics.tenant_label(tenant))
            self.values[metrics.BUDGET_AVAILABLE, labels] += ledger.available_uusd / 1e6
            self.values[metrics.BUDGET_RESERVED, labels] += ledger.reserved_uusd / 1e6

    def _worst(self, gauge: Gauge, pool: str, value: float) -> None:
        self.values[gauge, (pool,)] = max(value, self.values[gauge, (pool,)])
