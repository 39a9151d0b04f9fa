"""The metrics of a shadow: differences by kind and name, decisions, lag; docs/metrics.md has each."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from prometheus_client.registry import CollectorRegistry

from schemas.shadow import DifferenceKind
from streams.shadow.metrics import ShadowMetrics
from streams.sinks.lag import PartitionStatus, SinkStatus

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text().partition("## A shadow")[2]


def status() -> SinkStatus:
    """Give a follower that is three records behind in partition 1."""
    return SinkStatus(
        partitions={1: PartitionStatus(seq=9, lag_records=3, lag_s=1.5)},
        lag_records=3,
        lag_s=1.5,
        steps=10,
        decisions=40,
        duplicates=0,
        unreadable=0,
        troubles=0,
        trouble=None,
        trouble_s=0.0,
    )


def test_every_kind_has_a_number_from_the_start() -> None:
    """A kind that was not found is 0, so that a rate of it exists."""
    registry = CollectorRegistry()
    registry.register(ShadowMetrics("p70", {"other_model": 2}, status))
    found = {
        kind: registry.get_sample_value("slotwise_shadow_differences_total", {"name": "p70", "kind": kind})
        for kind in get_args(DifferenceKind)
    }
    assert found == {kind: 2.0 if kind == "other_model" else 0.0 for kind in get_args(DifferenceKind)}
    assert registry.get_sample_value("slotwise_shadow_decisions_total", {"name": "p70"}) == 40.0
    lag = {"name": "p70", "partition": "1"}
    assert registry.get_sample_value("slotwise_shadow_lag_records", lag) == 3.0
    assert registry.get_sample_value("slotwise_shadow_lag_seconds", lag) == 1.5


def test_the_page_names_each_metric() -> None:
    """None is missing there."""
    registry = CollectorRegistry()
    registry.register(ShadowMetrics("p70", {}, status))
    for one in registry.collect():
        assert f"`{one.name}{'_total' if one.type == 'counter' else ''}`" in PAGE
