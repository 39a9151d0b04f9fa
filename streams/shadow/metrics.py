"""The metrics of one process of a shadow, made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import get_args

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from schemas.shadow import DifferenceKind
from streams.sinks.lag import SinkStatus


class ShadowMetrics(Collector):
    """Differences by kind, decisions, and how far it is behind."""

    def __init__(self, name: str, found: Mapping[str, int], status: Callable[[], SinkStatus]) -> None:
        self._name = name
        self._found = found
        self._status = status

    def collect(self) -> Iterator[Metric]:
        """Yield each metric; names and labels are those of docs/metrics.md."""
        status = self._status()
        differences = CounterMetricFamily(
            "slotwise_shadow_differences", "Live decisions from which a shadow differs.", labels=["name", "kind"]
        )
        for kind in get_args(DifferenceKind):
            differences.add_metric([self._name, kind], self._found.get(kind, 0))
        yield differences
        decisions = CounterMetricFamily(
            "slotwise_shadow_decisions", "Live decisions that were compared.", labels=["name"]
        )
        decisions.add_metric([self._name], status.decisions)
        yield decisions
        records = GaugeMetricFamily(
            "slotwise_shadow_lag_records", "Journal records that are not compared yet.", labels=["name", "partition"]
        )
        seconds = GaugeMetricFamily(
            "slotwise_shadow_lag_seconds",
            "Age of the oldest record that is not compared yet.",
            labels=["name", "partition"],
        )
        for number, one in status.partitions.items():
            records.add_metric([self._name, str(number)], one.lag_records)
            seconds.add_metric([self._name, str(number)], one.lag_s)
        yield records
        yield seconds
