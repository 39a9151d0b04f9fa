"""What an experiment came to: each cell's numbers over its runs with their intervals, and its lead over the first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Final

from msgspec import Struct
from msgspec.structs import asdict

from streams.estimate.interval import Interval, of_few
from streams.simulate.experiment import OURS, Cell, Plan, Run

#: Numbers of a run by which cells are compared with the first one.
COMPARED: Final = ("ev_per_h", "usd_per_h", "usd_per_task", "ev_wait_s", "wait_s_p50", "wait_s_p95", "wait_s_max")


class Row(Struct, frozen=True, kw_only=True):
    """One cell over all seeds."""

    rule: str
    #: Name of its policy; of a rule that reads none: empty.
    policy: str
    fleet: Mapping[str, int]
    pace: str
    tasks: int
    #: Tasks of all runs that no slot ever took.
    unserved: int
    #: By the names in `RunStats`: the mean of the runs and its 95 % interval. With one run the interval is the value.
    values: Mapping[str, Interval]
    #: Its numbers less those of the first row of its pace, seed by seed.
    less_first: Mapping[str, Interval]
    #: Seconds of wait that each hundredth of the tasks does not exceed, the mean of the runs.
    waits_s: tuple[float, ...]
    #: EV an hour that no rule can exceed; only of the oracle.
    ev_per_h_bound: Interval | None = None


class Results(Struct, frozen=True, kw_only=True):
    """All rows, and what they are of."""

    trace: str
    seeds: int
    tasks_a_run: int
    #: (name, policy hash, catalogue hash) of each policy.
    policies: tuple[tuple[str, str, str], ...]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]


def rows(plan: Plan, cells: Sequence[Cell], runs: Mapping[tuple[int, int], Run]) -> tuple[Row, ...]:
    """Make the rows of all cells of the runs by (place of the cell, seed)."""
    found = []
    for place, cell in enumerate(cells):
        first = next(at for at, one in enumerate(cells) if one.pace == cell.pace)
        own = [runs[place, seed] for seed in range(plan.seeds)]
        numbers = [asdict(run.stats) for run in own]
        others = [asdict(runs[first, seed].stats) for seed in range(plan.seeds)]
        bounds = [run.ev_per_h_bound for run in own if run.ev_per_h_bound is not None]
        found.append(
            Row(
                rule=cell.rule,
                policy=plan.books[cell.book].name if cell.rule == OURS else "",
                fleet=plan.fleets[cell.fleet],
                pace=cell.pace.name,
                tasks=sum(run.tasks for run in own),
                unserved=sum(run.unserved for run in own),
                values={name: of_few([one[name] for one in numbers]) for name in numbers[0]},
                less_first={
                    name: of_few([one[name] - other[name] for one, other in zip(numbers, others, strict=True)])
                    for name in COMPARED
                },
                waits_s=tuple(map(fmean, zip(*(run.waits_s for run in own), strict=True))),
                ev_per_h_bound=of_few(bounds) if bounds else None,
            )
        )
    return tuple(found)
