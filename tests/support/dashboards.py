"""Makes the Grafana dashboards of deploy/grafana: `python -m tests.support.dashboards` writes them.

A panel is one line here; what Grafana wants around it is the same for all.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from msgspec import Struct

FOLDER: Final = Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards"
#: Grafana's grid: so many columns, and so many rows for a panel.
COLUMNS: Final = 24
HEIGHT: Final = 8
_POOL: Final = 'pool=~"$pool"'


class Query(Struct, frozen=True):
    """A query of Prometheus, and how its lines are named."""

    expr: str
    legend: str = ""


class Panel(Struct, frozen=True, kw_only=True):
    """One picture; `kind` is Grafana's, `unit` one of Grafana's units."""

    title: str
    #: What it shows, and when to worry.
    says: str
    queries: tuple[Query, ...]
    kind: str = "timeseries"
    unit: str = "short"
    #: Columns.
    width: int = 12
    #: From this value on it is red; None: never.
    red_from: float | None = None


class Dashboard(Struct, frozen=True, kw_only=True):
    """One page of panels."""

    uid: str
    title: str
    panels: tuple[Panel, ...]


def _stat(title: str, says: str, expr: str, *, unit: str = "short", red_from: float | None = None) -> Panel:
    return Panel(title=title, says=says, queries=(Query(expr),), kind="stat", unit=unit, width=4, red_from=red_from)


OVERVIEW: Final = Dashboard(
    uid="slotwise-overview",
    title="slotwise: overview",
    panels=(
        _stat("Workers", "Workers that have partitions.", "count(router_partitions > 0)"),
        _stat(
            "Partitions without a worker",
            "Their pools wait.",
            "max(router_partitions_installed) - sum(router_partitions)",
            red_from=1,
        ),
        _stat("Tasks waiting", "In all pools shown.", f"sum(slotwise_waiting_tasks{{{_POOL}}})"),
        _stat("Longest wait", "Of a waiting task.", f"max(slotwise_waiting_oldest_seconds{{{_POOL}}})", unit="s"),
        _stat("Lost slots", "Their leases ran out.", f'sum(slotwise_slots{{{_POOL}, state="lost"}})', red_from=1),
        _stat(
            "New dead letters",
            "Of the last hour.",
            "sum(increase(router_dead_letters_total[1h]))"
            ' + sum(increase(router_published_total{topic=~".+[.]dlq"}[1h]))',
            red_from=1,
        ),
        Panel(
            title="Decisions",
            says="By outcome.",
            unit="ops",
            queries=(
                Query(f"sum by (outcome) (rate(router_decisions_total{{{_POOL}}}[$__rate_interval]))", "{{outcome}}"),
            ),
        ),
        Panel(
            title="Waiting tasks",
            says="By what they wait for; no_capable_model needs a person.",
            queries=(Query(f"sum by (headline) (slotwise_waiting_tasks{{{_POOL}}})", "{{headline}}"),),
        ),
        Panel(
            title="Slots",
            says="By state. `held` is a copy of `leased` and is left out.",
            queries=(Query(f'sum by (state) (slotwise_slots{{{_POOL}, state!="held"}})', "{{state}}"),),
        ),
        Panel(
            title="Leased slots",
            says="Share of the slots in service, by model.",
            unit="percentunit",
            queries=(
                Query(
                    f'sum by (model) (slotwise_slots{{{_POOL}, state="leased"}})'
                    f' / sum by (model) (slotwise_slots{{{_POOL}, state=~"free|leased"}})',
                    "{{model}}",
                ),
            ),
        ),
        Panel(
            title="Points of patience",
            says="The greatest points of a waiting task beside the bound; far above it a task starves.",
            queries=(
                Query(f"max by (pool) (slotwise_waiting_points_max{{{_POOL}}})", "{{pool}}"),
                Query("min(slotwise_patience_points)", "bound"),
            ),
        ),
        Panel(
            title="How lanes fare",
            says="The state of each lane by the last hour; from 5 % on the static fallback a lane is degraded.",
            queries=(Query("max by (lane, state) (slotwise_lane_state)", "{{lane}}: {{state}}"),),
        ),
        Panel(
            title="Marks and quotas",
            says="Products that are exhausted and models that are drained; used shares of windows.",
            queries=(
                Query(f"max by (kind, of, account) (slotwise_marks_active{{{_POOL}}})", "{{kind}} {{of}} {{account}}"),
                Query(
                    f"max by (product, account, window) (slotwise_quota_used_share{{{_POOL}}})",
                    "{{product}} {{account}} {{window}}",
                ),
            ),
        ),
        Panel(
            title="What is refused",
            says="Dead letters, duplicates, records forwarded, and tasks that the static fallback routed.",
            unit="ops",
            queries=(
                Query("sum by (topic) (rate(router_dead_letters_total[$__rate_interval]))", "dead letters {{topic}}"),
                Query("sum by (topic) (rate(router_duplicates_total[$__rate_interval]))", "duplicates {{topic}}"),
                Query("sum by (topic) (rate(router_forwarded_total[$__rate_interval]))", "forwarded {{topic}}"),
                Query(f"sum(rate(router_errors_total{{{_POOL}}}[$__rate_interval]))", "static fallback"),
            ),
        ),
    ),
)

FLOW: Final = Dashboard(
    uid="slotwise-flow",
    title="slotwise: flow and lag",
    panels=(
        _stat(
            "Input lag",
            "Age of the oldest input that is not journaled.",
            "max(router_input_lag_seconds)",
            unit="s",
            red_from=60,
        ),
        _stat("Inputs behind", "Of all topics.", "sum(router_input_lag_records)"),
        _stat(
            "Publish lag",
            "Age of the oldest step that is not published.",
            "max(router_publish_lag_seconds)",
            unit="s",
            red_from=30,
        ),
        _stat(
            "Audit lag",
            "Age of the oldest step that is not in Postgres.",
            "max(slotwise_sink_lag_seconds)",
            unit="s",
            red_from=60,
        ),
        _stat(
            "Sink outage",
            "Length of the present one; 0: none.",
            "max(slotwise_sink_trouble_seconds)",
            unit="s",
            red_from=1,
        ),
        _stat(
            "Recovering",
            "Journal records still to be read before a partition works.",
            "sum(router_recovery_remaining_records)",
        ),
        Panel(
            title="Input lag by topic",
            says="Age of the oldest input that is not journaled; the worst partition.",
            unit="s",
            queries=(Query("max by (topic) (router_input_lag_seconds)", "{{topic}}"),),
        ),
        Panel(
            title="Inputs behind by topic and partition",
            says="One partition alone is a hot pool or a slow worker; all of them are the broker or too few workers.",
            queries=(Query("sum by (topic, partition) (router_input_lag_records)", "{{topic}}[{{partition}}]"),),
        ),
        Panel(
            title="Records behind the journal",
            says="What follows the journal: publisher, tables, sink.",
            queries=(
                Query("sum(router_publish_lag_records)", "publisher"),
                Query("sum(router_tables_lag_records)", "tables"),
                Query("sum(slotwise_sink_lag_records)", "sink"),
            ),
        ),
        Panel(
            title="Seconds behind the journal",
            says="The worst partition.",
            unit="s",
            queries=(
                Query("max(router_publish_lag_seconds)", "publisher"),
                Query("max(slotwise_sink_lag_seconds)", "sink"),
            ),
        ),
        Panel(
            title="Through the router",
            says="Steps journaled, records published, steps written to Postgres.",
            unit="ops",
            queries=(
                Query("sum(rate(router_steps_total[$__rate_interval]))", "steps journaled"),
                Query("sum by (topic) (rate(router_published_total[$__rate_interval]))", "published {{topic}}"),
                Query("sum(rate(slotwise_sink_steps_total[$__rate_interval]))", "steps in Postgres"),
            ),
        ),
        Panel(
            title="From an input to its step",
            says="P50 and P99 of the time from the input's record to the acknowledgement of its step.",
            unit="s",
            queries=tuple(
                Query(
                    f"histogram_quantile({share}, "
                    "sum by (le) (rate(router_event_to_decision_seconds_bucket[$__rate_interval])))",
                    name,
                )
                for share, name in ((0.5, "P50"), (0.99, "P99"))
            ),
        ),
        Panel(
            title="Appends to the journal",
            says="P99 of their time, and those that failed.",
            unit="s",
            queries=(
                Query(
                    "histogram_quantile(0.99, "
                    "sum by (le) (rate(router_journal_append_seconds_bucket[$__rate_interval])))",
                    "P99",
                ),
                Query("sum(rate(router_journal_append_errors_total[$__rate_interval]))", "failed a second"),
            ),
        ),
        Panel(
            title="The group",
            says="Partitions by worker, and rebalances.",
            queries=(
                Query("sum by (instance) (router_partitions)", "{{instance}}"),
                Query("sum(increase(router_rebalances_total[10m]))", "rebalances in 10 min"),
            ),
        ),
        Panel(
            title="What shadows would decide otherwise",
            says="Differences as a share of the decisions compared, by kind; only where a shadow runs.",
            unit="percentunit",
            queries=(
                Query(
                    "sum by (name, kind) (rate(slotwise_shadow_differences_total[$__rate_interval]))"
                    " / on (name) group_left sum by (name) (rate(slotwise_shadow_decisions_total[$__rate_interval]))",
                    "{{name}}: {{kind}}",
                ),
            ),
        ),
        Panel(
            title="Seconds that shadows are behind",
            says="Age of the oldest step that is not compared; the worst partition. A late shadow holds nothing up.",
            unit="s",
            queries=(Query("max by (name) (slotwise_shadow_lag_seconds)", "{{name}}"),),
            red_from=60,
        ),
    ),
)

MONEY: Final = Dashboard(
    uid="slotwise-money",
    title="slotwise: money",
    panels=(
        _stat(
            "Spent in 24 h",
            "Cost of finished work, as settled.",
            f"sum(increase(router_cost_usd_total{{{_POOL}}}[24h]))",
            unit="currencyUSD",
        ),
        _stat(
            "Saved in 24 h against always-premium",
            "By the estimates of the tasks routed.",
            f'sum(increase(router_estimated_usd_total{{{_POOL}, choice="always_premium"}}[24h]))'
            f' - sum(increase(router_estimated_usd_total{{{_POOL}, choice="slotwise"}}[24h]))',
            unit="currencyUSD",
        ),
        _stat(
            "Saved in 24 h against next-free",
            "By the estimates of the tasks routed.",
            f'sum(increase(router_estimated_usd_total{{{_POOL}, choice="next_free"}}[24h]))'
            f' - sum(increase(router_estimated_usd_total{{{_POOL}, choice="slotwise"}}[24h]))',
            unit="currencyUSD",
        ),
        _stat(
            "Highest cap",
            "Spend of the hour as a share of its cap: at 1 tier 3 is refused.",
            f"max(slotwise_breaker_spent_share{{{_POOL}}})",
            unit="percentunit",
            red_from=1,
        ),
        _stat(
            "Tenants without credit",
            "Their tasks wait.",
            f"count(slotwise_budget_available_usd{{{_POOL}}} <= 0)",
            red_from=1,
        ),
        _stat("Waiting for credit", "Tasks.", f'sum(slotwise_waiting_tasks{{{_POOL}, headline="credit"}})', red_from=1),
        Panel(
            title="Spend an hour by model",
            says="Cost of finished work, as settled.",
            unit="currencyUSD",
            queries=(Query(f"sum by (model) (rate(router_cost_usd_total{{{_POOL}}}[1h])) * 3600", "{{model}}"),),
        ),
        Panel(
            title="Estimated an hour, and by other choices",
            says="What the tasks routed were estimated at: as chosen, always premium, next free slot.",
            unit="currencyUSD",
            queries=(Query(f"sum by (choice) (rate(router_estimated_usd_total{{{_POOL}}}[1h])) * 3600", "{{choice}}"),),
        ),
        Panel(
            title="Budgets",
            says="Available, and reserved for running tasks.",
            unit="currencyUSD",
            queries=(
                Query(f"sum by (tenant) (slotwise_budget_available_usd{{{_POOL}}})", "{{tenant}} available"),
                Query(f"sum by (tenant) (slotwise_budget_reserved_usd{{{_POOL}}})", "{{tenant}} reserved"),
            ),
        ),
        Panel(
            title="Caps",
            says="Spend of the last hour as a share of its cap, from 0.8 on.",
            unit="percentunit",
            queries=(
                Query(
                    f"max by (pool, of, name) (slotwise_breaker_spent_share{{{_POOL}}})", "{{of}} {{name}} in {{pool}}"
                ),
            ),
            red_from=1,
        ),
    ),
)

DASHBOARDS: Final = (OVERVIEW, FLOW, MONEY)


def queries(of: Dashboard) -> list[str]:
    """Return every query of a dashboard."""
    return [query.expr for panel in of.panels for query in panel.queries]


def text_of(of: Dashboard) -> str:
    """Return the file of a dashboard."""
    return json.dumps(_dashboard(of), indent=1) + "\n"


def path_of(of: Dashboard) -> Path:
    """Return where it is."""
    return FOLDER / f"{of.uid.removeprefix('slotwise-')}.json"


def _dashboard(of: Dashboard) -> dict[str, Any]:
    panels: list[dict[str, Any]] = []
    x = y = row = 0
    for number, one in enumerate(of.panels, start=1):
        height = HEIGHT // 2 if one.kind == "stat" else HEIGHT
        if x + one.width > COLUMNS:
            x, y, row = 0, y + row, 0
        panels.append(_panel(one, number, {"x": x, "y": y, "w": one.width, "h": height}))
        x, row = x + one.width, max(row, height)
    return {
        "uid": of.uid,
        "title": of.title,
        "tags": ["slotwise"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "links": [{"type": "dashboards", "tags": ["slotwise"], "title": "slotwise", "asDropdown": False}],
        "templating": {
            "list": [
                {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
                {
                    "name": "pool",
                    "label": "Pool",
                    "type": "query",
                    "datasource": {"type": "prometheus", "uid": "${source}"},
                    "query": "label_values(slotwise_slots, pool)",
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                },
            ]
        },
        "panels": panels,
    }


def _panel(one: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if one.red_from is not None:
        steps.append({"color": "red", "value": one.red_from})
    source = {"type": "prometheus", "uid": "${source}"}
    return {
        "id": number,
        "title": one.title,
        "description": one.says,
        "type": one.kind,
        "gridPos": place,
        "datasource": source,
        "fieldConfig": {
            "defaults": {"unit": one.unit, "noValue": "-", "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {"refId": chr(ord("A") + at), "datasource": source, "expr": query.expr, "legendFormat": query.legend}
            for at, query in enumerate(one.queries)
        ],
    }


if __name__ == "__main__":
    for dashboard in DASHBOARDS:
        path_of(dashboard).write_text(text_of(dashboard))
