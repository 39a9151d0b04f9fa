"""The sink says by its pages whether it writes: ready, how far behind, and the same as metrics."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from msgspec.structs import replace

from streams.host import free_port
from streams.sinks.lag import PartitionStatus, SinkStatus
from streams.sinks.pages import LAG_S_MAX, SinkMetrics, SinkPagesError, readiness, serving

WELL = SinkStatus(
    partitions={3: PartitionStatus(seq=7, lag_records=2, lag_s=0.5)},
    lag_records=2,
    lag_s=0.5,
    steps=8,
    decisions=21,
    duplicates=1,
    unreadable=0,
    troubles=0,
    trouble=None,
    trouble_s=0.0,
)


def get(address: str) -> tuple[int, str]:
    """Ask for a page."""
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, refused.read().decode()


@pytest.mark.parametrize(
    ("status", "want"),
    [
        pytest.param(WELL, True, id="it writes"),
        pytest.param(replace(WELL, trouble="Postgres is away", trouble_s=3.0), False, id="an outage"),
        pytest.param(replace(WELL, lag_s=LAG_S_MAX), False, id="far behind"),
    ],
)
def test_a_sink_is_ready_while_it_writes(status: SinkStatus, want: bool) -> None:
    """An outage or a long lag makes it not ready."""
    assert readiness(status)["ready"] is want


def test_the_pages_say_what_the_status_says() -> None:
    """Over HTTP, with the codes that probes understand; the port is free again afterwards."""
    status = WELL
    port = free_port()
    with serving("127.0.0.1", port, lambda: status) as address:
        assert get(f"{address}/health/live") == (200, '{"live": true}')
        code, text = get(f"{address}/health/ready")
        assert (code, json.loads(text)["partitions"]) == (200, {"3": 7})
        code, text = get(f"{address}/metrics")
        assert 'slotwise_sink_lag_records{partition="3"} 2.0' in text
        assert "slotwise_sink_decisions_total 21.0" in text
        status = replace(WELL, trouble="Postgres is away")
        code, text = get(f"{address}/health/ready")
        assert (code, json.loads(text)["trouble"]) == (503, "Postgres is away")
        assert get(f"{address}/other")[0] == 404
        with (
            pytest.raises(SinkPagesError, match=f"cannot listen on 127.0.0.1:{port}"),
            serving("127.0.0.1", port, lambda: status),
        ):
            pass
    with serving("127.0.0.1", port, lambda: status):
        pass


def test_every_metric_of_the_sink_stands_on_the_page() -> None:
    """And the page names none that is not there."""
    page = (
        (Path(__file__).parents[2] / "docs" / "metrics.md")
        .read_text()
        .partition("## The sink")[2]
        .partition("## A shadow")[0]
    )
    known = {f"{one.name}_total" if one.type == "counter" else one.name for one in SinkMetrics(lambda: WELL).collect()}
    assert set(re.findall(r"`(slotwise_\w+)`", page)) == known
