"""Results of `slotwise simulate` as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from streams.commands.console import err, line, out
from streams.views.units import span

if TYPE_CHECKING:
    from streams.estimate.interval import Interval
    from streams.simulate.results import Results, Row
    from streams.simulate.sizing import Sized


def names(rows: Sequence[Row]) -> list[str]:
    """Name each row by what differs between rows."""
    from streams.simulate.fleet_words import words  # noqa: PLC0415 - as all of the command's parts

    parts = [(row.rule, row.policy, words(row.fleet), row.pace) for row in rows]
    policies = {policy for _, policy, _, _ in parts if policy}
    differs = [True, len(policies) > 1, *(len({one[at] for one in parts}) > 1 for at in (2, 3))]
    return [", ".join(word for word, wanted in zip(one, differs, strict=True) if wanted and word) for one in parts]


def print_results(results: Results) -> None:
    """Print a line for each cell, and what the numbers are of."""
    out.print(
        line(f"{results.trace}: {results.seeds} runs of {results.tasks_a_run:,} tasks each, the same for every line.")
    )
    grid = Table(box=None)
    grid.add_column("")
    for name in ("EV/h", "less first", "$/h", "less first", "wait p50", "p95", "longest", "tiers 1/2/3", "unserved"):
        grid.add_column(name, justify="right")
    for name, row in zip(names(results.rows), results.rows, strict=True):
        value = row.values
        tiers = "/".join(f"{100 * value[f'tier_{tier}'].value:.0f}" for tier in (1, 2, 3))
        grid.add_row(
            line(name),
            _spread(value["ev_per_h"], 0),
            _difference(row.less_first["ev_per_h"], 0),
            _spread(value["usd_per_h"], 2),
            _difference(row.less_first["usd_per_h"], 2),
            *(_wait(value[name].value) for name in ("wait_s_p50", "wait_s_p95", "wait_s_max")),
            f"{tiers} %",
            f"{row.unserved:,}" if row.unserved else "",
        )
    out.print(grid)
    for row in results.rows:
        if row.ev_per_h_bound is not None:
            out.print(
                line(
                    f"No rule can serve more than {row.ev_per_h_bound.value:,.0f} EV/h on "
                    f"{', '.join(f'{model} {count}' for model, count in row.fleet.items())} ({row.pace}): "
                    "the limit knows all arrivals, lengths and values, and cuts tasks into pieces."
                )
            )
    for name, policy, catalog in results.policies:
        out.print(line(f"{name}: policy {policy}, catalogue {catalog}."))
    for note in results.notes:
        err.print(line(note))


def print_size(result: Sized) -> None:
    """Print the answer, what was tried and what was assumed."""
    answer, limit = result.size, f"p{result.percentile} wait of {_wait(result.limit_s)} or less"
    if answer.slots is None:
        most = max(answer.tried)
        wait = answer.tried[most]
        out.print(
            line(
                f"No count of {result.model} slots up to {most} gives a {limit}: with {most} it is {_waits(wait)}. "
                "Add other slots with --fleet, or try more with --most."
            )
        )
    else:
        wait = answer.tried[answer.slots]
        out.print(line(f"{answer.slots} {result.model} slots give a {limit}: {_waits(wait)} over {result.seeds} runs."))
        least = answer.at_least if answer.at_least is not None else answer.slots
        surely = "more than were tried" if answer.surely is None else str(answer.surely)
        if surely == str(least):
            out.print("The 95 % interval of the count is that one number.")
        else:
            out.print(line(f"The 95 % interval of the count: {least} to {surely}."))
    grid = Table(box=None)
    for name in ("slots", f"p{result.percentile} wait", "95 % interval"):
        grid.add_column(name, justify="right")
    for count, wait in answer.tried.items():
        grid.add_row(str(count), _wait(wait.value), f"{_wait(wait.low)} to {_wait(wait.high)}")
    out.print(grid)
    for sentence in result.assumed:
        out.print(line(sentence))


def _spread(value: Interval, digits: int) -> str:
    return f"{value.value:,.{digits}f} ±{value.high - value.value:,.{digits}f}"


def _difference(value: Interval, digits: int) -> str:
    if value.low == value.high == 0:
        return ""
    return f"{value.value:+,.{digits}f} ±{value.high - value.value:,.{digits}f}"


def _waits(value: Interval) -> str:
    return f"{_wait(value.value)} [{_wait(value.low)}, {_wait(value.high)}]"


def _wait(seconds: float) -> str:
    return span(max(0.0, seconds))
