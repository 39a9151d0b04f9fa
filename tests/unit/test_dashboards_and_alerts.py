"""Dashboards and alert rules ask for metrics that exist, and are what their tests and generator say."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.vocabulary import INPUT_TOPICS
from streams.metrics import REGISTRY
from streams.shadow.metrics import ShadowMetrics
from streams.sinks.lag import PartitionStatus, SinkStatus
from streams.sinks.pages import SinkMetrics
from tests.support.dashboards import DASHBOARDS, FOLDER, path_of, queries, text_of
from tests.support.optional_parts import skip_without

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yml"
ALERTS: list[dict[str, Any]] = [
    rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]
]
EXPRESSIONS = [
    *((alert["alert"], alert["expr"]) for alert in ALERTS),
    *((dashboard.uid, expr) for dashboard in DASHBOARDS for expr in queries(dashboard)),
]
#: Prometheus adds these itself.
ADDED = {"instance", "job", "le"}
_STATUS = SinkStatus(
    partitions={0: PartitionStatus(seq=0, lag_records=0, lag_s=0.0)},
    lag_records=0, lag_s=0.0, steps=0, decisions=0, duplicates=0, unreadable=0, troubles=0, trouble=None, trouble_s=0.0,
)  # fmt: skip


def known() -> dict[str, set[str]]:
    """Every series of workers, sinks and shadows, with its labels."""
    found: dict[str, set[str]] = {}
    for one in REGISTRY._names_to_collectors.values():
        name, labels = one._name, {*one._labelnames}  # type: ignore[attr-defined]
        series = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(one._type, [""])  # type: ignore[attr-defined]
        found |= {name + end: labels for end in series}
    for pages in (SinkMetrics(lambda: _STATUS), ShadowMetrics("a", {}, lambda: _STATUS)):
        for family in pages.collect():
            found |= {sample.name: {*sample.labels} for sample in family.samples}
    return found


KNOWN = known()


def series(expr: str) -> Iterator[tuple[str, set[str]]]:
    """Every metric that an expression names, with the labels by which it is selected."""
    for name, matchers in re.findall(r"\b((?:router|slotwise)_[a-z_]+)(?:\{([^}]*)\})?", expr):
        yield name, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def mistakes(expr: str) -> list[str]:
    """What an expression names that does not exist."""
    found = list(series(expr))
    lacking = [f"no metric {name}" for name, _ in found if name not in KNOWN]
    lacking += [
        f"{name} has no label {label}" for name, labels in found for label in labels - KNOWN.get(name, labels) - ADDED
    ]
    every = set().union(*(KNOWN.get(name, set()) for name, _ in found)) | ADDED
    for words in re.findall(r"\b(?:by|ignoring|on)\s*\(([^)]*)\)", expr):
        lacking += [f"nothing has the label {label}" for label in re.findall(r"\w+", words) if label not in every]
    return lacking if found else ["no metric at all"]


@pytest.mark.parametrize(("where", "expr"), EXPRESSIONS)
def test_a_query_names_metrics_and_labels_that_exist(where: str, expr: str) -> None:
    """Of workers, sinks and shadows; a metric that is renamed must not leave a panel empty or an alert silent."""
    assert mistakes(expr) == [], where


def test_what_is_alerted_on_by_its_increase_begins_with_zero() -> None:
    """Else the first dead letter of a worker's life would be no increase."""
    for name, topics in (
        ("router_dead_letters_total", INPUT_TOPICS),
        ("router_published_total", ("task.pending.dlq",)),
    ):
        assert all(REGISTRY.get_sample_value(name, {"topic": topic}) is not None for topic in topics)


def test_what_does_not_exist_is_found() -> None:
    """The name, a label that selects, and a label that groups."""
    assert mistakes('sum by (poool) (rate(router_step_total{topik="x"}[5m]))') == [
        "no metric router_step_total",
        "nothing has the label poool",
    ]
    assert mistakes('max(router_input_lag_seconds{topik="x"})') == ["router_input_lag_seconds has no label topik"]
    assert mistakes("up == 0") == ["no metric at all"]


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.uid)
def test_the_dashboards_are_those_of_the_generator(dashboard: Any) -> None:
    """`python -m tests.support.dashboards` writes them."""
    assert path_of(dashboard).read_text() == text_of(dashboard), "run python -m tests.support.dashboards"


def test_no_dashboard_is_left_over_and_panels_do_not_overlap() -> None:
    """Every file is one of the list; every panel has a place and a number of its own, and says what it shows."""
    assert sorted(FOLDER.glob("*.json")) == sorted(map(path_of, DASHBOARDS))
    for path in FOLDER.glob("*.json"):
        panels = json.loads(path.read_text())["panels"]
        assert len({one["id"] for one in panels}) == len(panels)
        cells = [
            (x, y)
            for place in (one["gridPos"] for one in panels)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24
        assert all(one["description"] for one in panels)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda one: one["alert"])
def test_an_alert_says_what_to_do_and_where_to_read_on(alert: dict[str, Any]) -> None:
    """Its section of the runbook has its name; the severity says who is called."""
    notes = alert["annotations"]
    assert set(notes) == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in {"page", "ticket", "info"}
    assert notes["runbook_url"] == f"deploy/RUNBOOK.md#{alert['alert'].lower()}"
    assert f"\n## {alert['alert']}\n" in (DEPLOY / "RUNBOOK.md").read_text()


def test_every_alert_is_tested_as_it_fires() -> None:
    """By name, in alerts.test.yml."""
    tests = (DEPLOY / "prometheus" / "alerts.test.yml").read_text()
    for alert in ALERTS:
        assert re.search(rf"\b{alert['alert']}\b", tests.partition("- name: without any process")[2]), alert["alert"]


def promtool(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    program = shutil.which("promtool")
    if program is None:
        skip_without("promtool", "promtool is not installed: apt-get install prometheus")
    return subprocess.run([program, *words], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.promtool
def test_the_alert_rules_fire_as_their_tests_say() -> None:
    """And nothing fires while all is well."""
    done = promtool("test", "rules", "alerts.test.yml", folder=RULES.parent)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.promtool
def test_prometheus_understands_every_query_of_the_dashboards(tmp_path: Path) -> None:
    """With Grafana's variables filled in."""
    rules = [
        {"record": f"q:n{number}", "expr": expr.replace("$__rate_interval", "5m").replace("$pool", ".*")}
        for number, (_, expr) in enumerate(EXPRESSIONS)
    ]
    (tmp_path / "queries.yml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = promtool("check", "rules", "queries.yml", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
