"""`slotwise simulate`: what a policy, a fleet or a load would come to, and how many slots are enough."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from msgspec.structs import asdict

from streams.commands.console import busy, err, line, print_json
from streams.commands.options import Json, picture_directory, takes
from streams.commands.simulate_text import names, print_results, print_size
from streams.errors import FAILED, MISTAKE, SlotwiseError
from streams.settings import Settings

if TYPE_CHECKING:
    from streams.core.policy.rulebook import Rulebook
    from streams.simulate.experiment import Book, Cell, Plan, Run
    from streams.simulate.results import Results

app = typer.Typer()

#: Runs below which an interval says little.
_SEEDS_FEW: Final = 5

Trace = Annotated[
    str,
    typer.Option(
        help="sample, azure_code, azure_conv, mooncake_conv, servegen; or a CSV file; or one's own journal, a file of "
        "`slotwise sink --to` or a directory of `slotwise journal export`."
    ),
]
Pool = Annotated[str | None, typer.Option(help="Of a journal with several pools: this one.")]
FleetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fleet", help="opus=2,haiku=6, or opus=1..4,haiku=6 for each of four, or a TOML. Default: the sample's."
    ),
]
Policies = Annotated[
    list[str] | None,
    typer.Option("--policy", help="Policies to compare, a.toml,b.toml; also ready ones, and shipped."),
]
Catalogs = Annotated[list[str] | None, typer.Option("--catalog", help="Catalogues to compare, as --policy.")]
Rate = Annotated[list[str] | None, typer.Option("--rate", help="Tasks an hour instead of the recorded pace; a list.")]
Tasks = Annotated[int, typer.Option(min=2, max=20_000, help="Tasks of a run, at most.")]
TaskS = Annotated[
    float | None,
    typer.Option(
        "--task-s",
        min=0.001,
        max=86_400.0,
        help="A task is as many recorded calls as last so long on the first fleet's average slot. "
        "Default: 60 for traces of requests; one call for the sample and a journal.",
    ),
]
Processes = Annotated[
    int | None, typer.Option(min=1, max=256, help="Processes to share the runs. Default: one a core.")
]


class SizeMistake(SlotwiseError):
    """The question has no answer as it is put; the message says what to change."""

    exit_code = MISTAKE


@app.callback(
    invoke_without_command=True, epilog="Example: slotwise simulate --fleet opus=1..4,haiku=6 --policy a.toml,b.toml"
)
@takes()
def simulate(
    settings: Settings,
    *,
    context: typer.Context,
    trace: Trace = "sample",
    pool: Pool = None,
    fleet: FleetOption = None,
    policy: Policies = None,
    catalog: Catalogs = None,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", help="Rules to compare; a list. Default: slotwise and all baselines.")
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option(
            "--load", help="Share of what the tightest tier of the first fleet can do: 0.9,1.3. Default: as recorded."
        ),
    ] = None,
    rate: Rate = None,
    seeds: Annotated[int, typer.Option(min=1, max=1_000, help="Runs of each; 1: the recording as it stands.")] = 8,
    tasks: Tasks = 500,
    task_s: TaskS = None,
    processes: Processes = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            help="Draw pareto.svg and waits.svg into this directory.", metavar="DIR", callback=picture_directory
        ),
    ] = None,
    csv_file: Annotated[
        Path | None, typer.Option("--csv", help="Write the numbers of each run, a line each.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Play recorded work on fleets that may not exist, under the real router and under baselines; needs no broker.

    Every rule has the same work in a run. Intervals are of 95 %, over the runs; "less first" is the difference to the
    first line, run by run. docs/what-if.md says what is assumed.
    """
    if context.invoked_subcommand is not None:
        return
    from streams.operate import plan as plans  # noqa: PLC0415 - as all of the command's parts: they take a while
    from streams.simulate.fleet_words import fleets  # noqa: PLC0415

    found = plans.books(settings, plans.listed(policy or ()), plans.listed(catalog or ()))
    first = next(iter(found.values()))[1]
    recording = plans.recording_of(trace, first.models, pool)
    rules = plans.rules_of(plans.listed(rule or ()))
    pace = plans.paces(
        plans.listed(load or ()), plans.listed(rate or ()), default_load=None if recording.task_s is None else 0.9
    )
    plan = _plan(
        found.values(),
        recording=recording,
        fleets=tuple(one for text in fleet or () for one in fleets(text)) or (_sample_fleet(),),
        seeds=seeds,
        tasks=tasks,
        task_s=task_s,
    )
    notes = list(recording.notes)
    plan, rules = _with_litellm(plan, rules, notes, named=bool(rule))
    wanted = plans.cells(plan, rules, pace)
    runs = _run(plan, wanted, processes, quiet=as_json)
    results = _results(plan, wanted, runs, notes, [rulebook for _, rulebook in found.values()])
    try:
        if csv_file is not None:
            _write_csv(csv_file, results, runs)
        if pictures is not None:
            _draw(pictures, results)
    except OSError as error:
        raise SizeMistake(f"{error.filename} cannot be written: {error.strerror}.") from None
    if as_json:
        print_json(results)
    else:
        print_results(results)


@app.command("size", epilog="Example: slotwise simulate size --model opus --p95-wait 5m --fleet haiku=6,sonnet=3")
@takes()
def size(
    settings: Settings,
    *,
    model: Annotated[str, typer.Option(help="The model whose slots are counted.", show_default=False)],
    p50_wait: Annotated[str | None, typer.Option("--p50-wait", help="Half of the tasks wait no longer.")] = None,
    p95_wait: Annotated[str | None, typer.Option("--p95-wait", help="5m, 90s: so many of 100 wait no longer.")] = None,
    p99_wait: Annotated[str | None, typer.Option("--p99-wait", help="As --p95-wait, of 99 in 100.")] = None,
    fleet: FleetOption = None,
    trace: Trace = "sample",
    pool: Pool = None,
    policy: Policies = None,
    catalog: Catalogs = None,
    rule: Annotated[str, typer.Option(help="The rule that routes.")] = "slotwise",
    rate: Rate = None,
    most: Annotated[int, typer.Option(min=1, max=500, help="Slots that are tried at most.")] = 64,
    seeds: Annotated[int, typer.Option(min=2, max=1_000, help="Runs of each count; more narrow the interval.")] = 20,
    tasks: Tasks = 500,
    task_s: TaskS = None,
    processes: Processes = None,
    as_json: Json = False,
) -> None:
    """Say how many slots of a model keep waits below a limit at this load, with an interval; needs no broker.

    --fleet has the other slots; what it says of the model itself is not used. Exit code 1: no count is enough.
    """
    from streams.operate import plan as plans  # noqa: PLC0415 - as all of the command's parts: they take a while
    from streams.operate.moments import seconds  # noqa: PLC0415
    from streams.operate.simulation import runner  # noqa: PLC0415
    from streams.simulate.experiment import Cell  # noqa: PLC0415
    from streams.simulate.fleet_words import fleets  # noqa: PLC0415
    from streams.simulate.sizing import Sized  # noqa: PLC0415
    from streams.simulate.sizing import size as sized  # noqa: PLC0415

    limits = [
        (percentile, seconds(text))
        for percentile, text in ((50, p50_wait), (95, p95_wait), (99, p99_wait))
        if text is not None
    ]
    others = [one for text in fleet or () for one in fleets(text)] or [_sample_fleet()]
    found = plans.books(settings, plans.listed(policy or ()), plans.listed(catalog or ()))
    pace = plans.paces((), plans.listed(rate or ()), default_load=None)
    (named,) = plans.rules_of([rule])
    if len(limits) != 1:
        raise SizeMistake("Say which waits must be short: one of --p50-wait, --p95-wait and --p99-wait.")
    if len(others) != 1 or len(found) != 1 or len(pace) != 1:
        raise SizeMistake("One fleet, one policy, one catalogue and one rate have one answer: name one of each.")
    (percentile, limit_s), (_, rulebook) = limits[0], next(iter(found.values()))
    recording = plans.recording_of(trace, rulebook.models, pool)
    rest = {name: count for name, count in others[0].items() if name != model}
    plan = _plan(
        found.values(),
        recording=recording,
        fleets=tuple({**rest, model: count} for count in range(1, most + 1)),
        seeds=seeds,
        tasks=tasks,
        task_s=task_s,
    )
    plan, (named,) = _with_litellm(plan, [named], [], named=True)
    with runner(plan, _share(processes, seeds)) as run, busy("Run", quiet=as_json) as progress:
        done = 0

        def waits(count: int) -> list[float]:
            nonlocal done
            cell = Cell(rule=named, book=0, fleet=count - 1, pace=pace[0])
            runs = run([cell], lambda so_far: progress(done + so_far))
            done += seeds
            unserved = sum(one.unserved for one in runs.values())
            if unserved:
                raise SizeMistake(
                    f"{named} never serves {unserved} of the tasks with {count} slots of {model}: "
                    "add to --fleet what they need."
                )
            return [runs[0, seed].waits_s[percentile] for seed in range(seeds)]

        answer = sized(waits, limit_s, most)
    result = Sized(
        model=model,
        limit_s=limit_s,
        percentile=percentile,
        size=answer,
        seeds=seeds,
        assumed=(
            f"Work: {recording.name}, {pace[0].name}, {tasks:,} tasks a run at most, of pieces of it by lot.",
            f"Other slots: {', '.join(f'{name} {count}' for name, count in rest.items()) or 'none'}.",
            f"Rule: {named}; policy {rulebook.policy_hash}, catalogue {rulebook.catalog_hash}.",
            "A run begins with a free fleet. A slot does one task at a time at the catalogue's speed, and none fails.",
            "More slots do not lengthen waits.",
            *recording.notes,
        ),
    )
    if as_json:
        print_json(result)
    else:
        print_size(result)
    if answer.slots is None:
        raise typer.Exit(FAILED)


def _sample_fleet() -> dict[str, int]:
    from streams.sample.fleet import SLOTS  # noqa: PLC0415 - only where no fleet is named

    return dict(SLOTS)


def _plan(books: Collection[tuple[Book, Rulebook]], **fields: Any) -> Plan:
    """Make a plan whose fleets can be simulated with every catalogue, or say why not before anything is started."""
    from streams.simulate.experiment import Plan  # noqa: PLC0415 - as all of the command's parts
    from streams.simulate.fleet import fleet  # noqa: PLC0415

    plan = Plan(books=tuple(book for book, _ in books), **fields)
    for _, rulebook in books:
        for slots in plan.fleets:
            fleet(slots, rulebook.models)
    return plan


def _with_litellm(plan: Plan, rules: Sequence[str], notes: list[str], *, named: bool) -> tuple[Plan, list[str]]:
    """Let LiteLLM's router read the titles, where it is wanted and can."""
    from msgspec import structs  # noqa: PLC0415 - as all of the command's parts

    from streams.operate.litellm_tiers import litellm_tiers  # noqa: PLC0415
    from streams.simulate.experiment import LITELLM  # noqa: PLC0415

    if LITELLM not in rules:
        return plan, list(rules)
    why = "the tasks of this recording have no titles for it to read."
    if plan.recording.has_texts:
        tiers = litellm_tiers(plan.recording.texts)
        if tiers is not None:
            return structs.replace(plan, tiers=tiers), list(rules)
        why = "LiteLLM's complexity router is not installed here; `pip install litellm` brings it."
    left = [rule for rule in rules if rule != LITELLM]
    if named and not left:
        raise SizeMistake(f"Rule {LITELLM} cannot be played: {why}")
    notes.append(f"Rule {LITELLM} is left out: {why}")
    return plan, left


def _share(processes: int | None, runs: int) -> int:
    """How many processes share so many runs: no more than there are runs, each begins with work of its own."""
    return min(runs, processes or os.cpu_count() or 1)


def _run(plan: Plan, wanted: Sequence[Cell], processes: int | None, *, quiet: bool) -> Mapping[tuple[int, int], Run]:
    from streams.operate.simulation import runner  # noqa: PLC0415 - as all of the command's parts

    total = len(wanted) * plan.seeds
    with (
        runner(plan, _share(processes, total)) as run,
        busy("runs", quiet=quiet, total=total) as progress,
    ):
        return run(wanted, progress)


def _results(
    plan: Plan,
    wanted: Sequence[Cell],
    runs: Mapping[tuple[int, int], Run],
    notes: Sequence[str],
    rulebooks: Sequence[Rulebook],
) -> Results:
    from streams.simulate.results import Results, rows  # noqa: PLC0415 - as all of the command's parts

    found = rows(plan, wanted, runs)
    notes = list(notes)
    if plan.seeds < _SEEDS_FEW:
        notes.append(f"{plan.seeds} runs say little of chance: take more --seeds.")
    if not any(row.values[name].value for row in found for name in ("ev_per_h", "usd_per_h")):
        notes.append("EV/h and $/h are 0: no task was done before the last one came. Name a lower --load or --rate.")
    return Results(
        trace=plan.recording.name,
        seeds=plan.seeds,
        tasks_a_run=max(run.tasks for run in runs.values()),
        policies=tuple(
            (book.name, rulebook.policy_hash, rulebook.catalog_hash)
            for book, rulebook in zip(plan.books, rulebooks, strict=True)
        ),
        notes=tuple(notes),
        rows=found,
    )


def _write_csv(file: Path, results: Results, runs: Mapping[tuple[int, int], Run]) -> None:
    from streams.simulate.fleet_words import words  # noqa: PLC0415 - as all of the command's parts

    with file.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.writer(lines)
        names = list(asdict(next(iter(runs.values())).stats))
        writer.writerow(["rule", "policy", "fleet", "pace", "seed", "tasks", "unserved", *names])
        for place, row in enumerate(results.rows):
            for seed in range(results.seeds):
                run = runs[place, seed]
                numbers = asdict(run.stats)
                writer.writerow(
                    [row.rule, row.policy, words(row.fleet), row.pace, seed, run.tasks, run.unserved]
                    + [numbers[name] for name in names]
                )


def _draw(folder: Path, results: Results) -> None:
    from streams.simulate.picture import Curve, Point, pareto, waits  # noqa: PLC0415 - as all of the command's parts

    title = f"{results.trace}, {results.seeds} runs of {results.tasks_a_run} tasks"
    named = names(results.rows)
    points = [
        Point(name, row.values["usd_per_h"], row.values["ev_per_h"])
        for name, row in zip(named, results.rows, strict=True)
    ]
    curves = [Curve(name, row.waits_s) for name, row in zip(named, results.rows, strict=True)]
    (folder / "pareto.svg").write_text(pareto(points, title), "utf-8")
    (folder / "waits.svg").write_text(waits(curves, title), "utf-8")
    err.print(line(f"Drawn: {folder / 'pareto.svg'} and {folder / 'waits.svg'}."))
