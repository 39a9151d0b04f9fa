"""What a run found: the table for people, the JSON for machines, and the comparison with the budget."""

from __future__ import annotations

import os
import platform
import subprocess
import tomllib
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from msgspec import Struct
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.bench.race import Pair, Run

BUDGET: Final = Path(__file__).with_name("budget.toml")


class Goal(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a number should be."""

    at_least: float | None = None
    at_most: float | None = None

    def is_met(self, value: float) -> bool:
        """Whether it is."""
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)

    def __str__(self) -> str:
        """Write it as people do."""
        return f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"


class Finding(Struct, frozen=True, kw_only=True):
    """One line of the report."""

    #: Its name in the budget.
    key: str
    title: str
    #: What the goal is about: a ratio, or a cost.
    value: float
    unit: str
    ours: str = ""
    theirs: str = ""
    #: Least and most of the runs.
    spread: tuple[float, float] | None = None
    details: Mapping[str, Any] = {}

    @classmethod
    def of(cls, key: str, title: str, value: float, unit: str, details: Mapping[str, Any] | None = None) -> Self:
        """A number without another side."""
        return cls(
            key=key, title=title, value=round(value, 3), unit=unit, ours=f"{value:,.1f} {unit}", details=details or {}
        )


def of_pair(key: str, title: str, pair: Pair) -> Finding:
    """The median ratio of pairs, with the median rate of each side."""
    return Finding(
        key=key,
        title=title,
        value=round(pair.ratio, 3),
        unit="x",
        ours=_rate(pair.ours),
        theirs=_rate(pair.theirs),
        spread=(round(min(pair.ratios), 3), round(max(pair.ratios), 3)),
        details=msgspec.to_builtins(pair) | {"ratios": pair.ratios},
    )


def at_ms(ordered_s: Sequence[float], share: float) -> float:
    """Return the time below which a share of these times is, in milliseconds; they are in order."""
    return round(ordered_s[min(len(ordered_s) - 1, int(share * len(ordered_s)))] * 1000, 2)


def of_run(key: str, title: str, run: Run) -> Finding:
    """One side alone."""
    return Finding(
        key=key, title=title, value=run.events_per_s, unit="/s", ours=_rate((run,)), details=msgspec.to_builtins(run)
    )


def _rate(runs: Iterable[Run]) -> str:
    some = list(runs)
    rate, cpu = median(run.events_per_s for run in some), median(run.cpu_us_per_event for run in some)
    return f"{rate:,.0f}/s ({cpu:.0f} us)"


def read_budget() -> dict[str, Goal]:
    """Read the goals, by the key of their finding."""
    tables = tomllib.loads(BUDGET.read_text())
    return msgspec.convert(tables, dict[str, Goal])


def table(findings: Iterable[Finding], budget: Mapping[str, Goal]) -> Table:
    """Show measure, both sides, ratio, goal, and whether it is met."""
    shown = Table(title="slotwise bench", caption="in brackets: processor time of the side's own process, an event")
    for name in ("", "measure", "ours", "theirs", "result", "goal", ""):
        shown.add_column(name, justify="right" if name in {"ours", "theirs", "result", "goal"} else "left")
    for one in findings:
        goal = budget.get(one.key)
        spread = f"\n{one.spread[0]:.2f} to {one.spread[1]:.2f}" if one.spread else ""
        word = "" if goal is None else "[green]met[/]" if goal.is_met(one.value) else "[red]short[/]"
        result = f"{one.value:,.2f} {one.unit}{spread}"
        shown.add_row(one.key, one.title, one.ours, one.theirs, result, "" if goal is None else str(goal), word)
    return shown


def short(findings: Iterable[Finding], budget: Mapping[str, Goal]) -> list[str]:
    """Name the goals that are not met."""
    return [one.key for one in findings if one.key in budget and not budget[one.key].is_met(one.value)]


def write_json(file: Path, findings: Iterable[Finding], budget: Mapping[str, Goal], options: Mapping[str, Any]) -> None:
    """Keep everything that was found, with what it was found on."""
    whole = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "slotwise": version("slotwise"),
        "commit": _commit(),
        "machine": {
            "system": f"{platform.system()} {platform.release()}",
            "processor": _processor(),
            "cores": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 2),
            "python": platform.python_version(),
        },
        "libraries": {name: version(name) for name in ("aiokafka", "faust-streaming", "msgspec", "psycopg")},
        "options": dict(options),
        "findings": [
            {
                **msgspec.to_builtins(one),
                "goal": str(budget[one.key]) if one.key in budget else None,
                "met": budget[one.key].is_met(one.value) if one.key in budget else None,
            }
            for one in findings
        ],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _commit() -> str:
    try:
        asked = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False, cwd=BUDGET.parent
        )
    except OSError:
        return "unknown"
    return asked.stdout.strip() or "unknown"
