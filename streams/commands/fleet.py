"""`slotwise check` and `slotwise recommend`: the state of the fleet, and where a task would go; both change nothing."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from streams.clock import SystemClock
from streams.commands.console import err, line, out, print_json
from streams.commands.control import SETTINGS
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.settings import Settings
from streams.views.parts import notes

if TYPE_CHECKING:
    from streams.operate.recommend import Recommendation
    from streams.views.overview import ModelView, Overview, PartitionView, PoolView

app = typer.Typer()

PANEL = "The fleet"


@app.command("check", epilog="Example: slotwise check --json", rich_help_panel=PANEL)
@takes(*SETTINGS, "database", "database_connect_timeout_s", "database_statement_timeout_s", "journal", join=True)
def check(
    settings: Settings,
    *,
    pool: Annotated[str | None, typer.Option(help="Only this pool. Default: all.")] = None,
    audit: Annotated[
        bool, typer.Option("--audit/--no-audit", help="Also look whether the audit in Postgres has every step.")
    ] = True,
    as_json: Json = False,
) -> None:
    """Show slots, marks, quotas, budgets and waiting tasks of every pool, read from the journal; workers and audit too.

    Exit code 0: all well; 1: something needs attention, such as a model that is exhausted, drained or refused by its
    quota, a lost slot, a budget without money, a task that no model can do, a new dead letter, partitions without a
    worker, a database that does not answer, an audit behind the journal. A sentence names each; those that need a
    person stand apart.
    """
    from streams.database.connection import Timeouts  # noqa: PLC0415
    from streams.operate.dead_letters import CHECKED_MAX, read_dead_letters  # noqa: PLC0415 - brings the Kafka client along
    from streams.operate.parts import read_parts  # noqa: PLC0415 - brings the clients of both servers along
    from streams.operate.read_partitions import partitions_of, read_partitions  # noqa: PLC0415 - brings the Kafka client along
    from streams.topics import check_topics, name_in_audit  # noqa: PLC0415
    from streams.views.lanes import lanes  # noqa: PLC0415 - brings the database driver along
    from streams.views.overview import overview, with_dead_letters, with_lanes  # noqa: PLC0415

    check_topics(settings)
    recovered = asyncio.run(read_partitions(settings, partitions_of(settings, pool)))
    ends = {number: one.router.seq for number, one in recovered.items()}
    parts = asyncio.run(read_parts(settings, ends, audit=audit))
    dead_letters = asyncio.run(read_dead_letters(settings, last=CHECKED_MAX))
    now_ms = SystemClock().now_ms()
    found = with_dead_letters(overview(recovered, now_ms, pool, parts), dead_letters.new(now_ms, pool))
    if pool is None and parts.audit is not None and parts.audit.trouble is None:
        found = with_lanes(found, lanes(settings.database, name_in_audit(settings), Timeouts.of(settings)))
    if as_json:
        print_json(found)
    else:
        _print_overview(found, pool)
    if not found.well:
        raise typer.Exit(FAILED)


@app.command("recommend", epilog="Example: slotwise recommend --task-type debug", rich_help_panel=PANEL)
@takes(*SETTINGS, join=True)
def recommend(
    settings: Settings,
    *,
    pool: Annotated[str | None, typer.Option(help="The pool. Default: main, or the only one there is.")] = None,
    task_type: Annotated[str | None, typer.Option(help="Kind of work: code, debug, writing, bulk ...")] = None,
    requires: Annotated[
        list[str] | None, typer.Option(metavar="RATING=BAR", help="As coding=8; several times, or with commas.")
    ] = None,
    complexity: Annotated[str | None, typer.Option(help="trivial, simple, standard, complex or expert.")] = None,
    agent_role: Annotated[str | None, typer.Option(help="Role of the agent that will do it.")] = None,
    ev: Annotated[float | None, typer.Option(help="Expected value of the task.")] = None,
    priority: Annotated[int, typer.Option(help="0 to 100.")] = 50,
    quest_priority: Annotated[int, typer.Option(help="0 to 100; from 95 on it lifts.")] = 0,
    input_tokens: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 0,
    output_tokens: Annotated[int | None, typer.Option(help="Expected tokens of the answer.")] = None,
    tenant: Annotated[str | None, typer.Option(help="The tenant that pays.")] = None,
    lane: Annotated[str | None, typer.Option(help="Stream of work it comes from.")] = None,
    strategy: Annotated[str | None, typer.Option(help="cheapest_capable, objective or preference.")] = None,
    objective: Annotated[str | None, typer.Option(help="cost_speed, balanced or quality.")] = None,
    floor_model: Annotated[str | None, typer.Option(help="Nothing of a lower tier than this model.")] = None,
    max_tier: Annotated[int | None, typer.Option(help="Nothing of a higher tier.")] = None,
    local_only: Annotated[bool, typer.Option("--local-only", help="Only models that run locally.")] = False,
    field: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Any other field of a task; several times.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no broker: one free slot of every model of the catalogue.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show where a task would go now, and why; nothing is sent or recorded.

    The router itself answers, on the present state with all waiting tasks. Exit code 0: it would be routed; 1: it
    would wait, or end.
    """
    from streams.operate.recommend import (  # noqa: PLC0415 - brings the Kafka client along
        bars,
        fields_of,
        offline_router,
        others,
        recommendation,
        router_of,
        type_note,
    )

    task = fields_of(
        **others(field or ()),
        task_type=task_type,
        requires=bars(requires or ()),
        complexity=complexity,
        agent_role=agent_role,
        ev=ev,
        priority=priority,
        quest_priority=quest_priority,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
        tenant_id=tenant,
        lane=lane,
        strategy=strategy,
        objective=objective,
        floor_model=floor_model,
        max_tier=max_tier,
        local_only=local_only,
    )
    router, of = offline_router(settings) if offline else asyncio.run(router_of(settings, pool))
    found = asyncio.run(recommendation(router, of, task, SystemClock().now_ms()))
    if as_json:
        print_json(found)
    else:
        _print_recommendation(found)
        if task_type is not None and (note := type_note(task_type, found.strategy, router.rulebook)) is not None:
            err.print(line(note))
    if found.outcome != "routed":
        raise typer.Exit(FAILED)


def _print_overview(found: Overview, asked: str | None) -> None:
    for pool in found.pools:
        _print_pool(pool)
    if not found.pools and found.partitions and asked is None:
        out.print("No pool has slots, tasks or budgets yet. Those to come begin with these marks, if any:")
        _print_marks(found.partitions[0], "  ")
    rules = {(one.policy, one.catalog) for one in found.partitions}
    used = ", ".join(f"policy {policy}, catalogue {catalog}" for policy, catalog in sorted(rules))
    out.print(f"{len(found.pools)} pools on {len(found.partitions)} partitions; {used}.")
    if found.parts is not None:
        for note in notes(found.parts):
            out.print(line(note))
    for lane in found.lanes or ():
        if lane.state == "elevated_fallback":
            out.print(line(lane.sentence()))
    if found.lanes:
        states = Counter(one.state for one in found.lanes)
        out.print(f"Lanes in the last hour: {', '.join(f'{count} {state}' for state, count in states.most_common())}.")
    for head, needs_person in (("Needs a person:", True), ("Passes by itself:", False)):
        says = [one.says for one in found.attention if one.needs_person is needs_person]
        if says:
            err.print(head)
        for one in says:
            err.print(line(f"  {one}"))
    if found.well:
        out.print("All well.")


def _print_pool(pool: PoolView) -> None:
    tasks = pool.tasks
    reasons = ", ".join(f"{count} {reason}" for reason, count in tasks.waiting_by_reason.items())
    out.print(
        line(
            f"{pool.pool} (partition {pool.partition}): {tasks.waiting} waiting{f' ({reasons})' if reasons else ''}, "
            f"{tasks.running} running, {tasks.delayed} delayed"
        )
    )
    if pool.duplicates:
        out.print(f"  {pool.duplicates} sent again after their end and ignored; slotwise explain says of each why")
    if pool.models:
        grid = Table("  model", "tier", "free", "leased", "lost", "accounts", "quota", "state", box=None)
        for model in pool.models:
            grid.add_row(*map(line, _row(model)))
        out.print(grid)
    _print_marks(pool, "  ")
    for budget in pool.budgets:
        spent = (
            f"${budget.reserved_usd:.2f} reserved, ${budget.consumed_usd:.2f} consumed of ${budget.credited_usd:.2f}"
        )
        out.print(line(f"  budget {budget.tenant_id}: ${budget.available_usd:.2f} available, {spent}"))
    for cap in pool.caps:
        refused = "" if cap.refuses == "nothing" else f", {cap.refuses} is refused"
        out.print(line(f"  cap of {cap.of} {cap.name}: ${cap.spent_usd:.2f} of ${cap.cap_usd:g} an hour{refused}"))
    out.print()


def _print_marks(of: PoolView | PartitionView, indent: str) -> None:
    for mark in of.exhausted:
        out.print(line(f"{indent}exhausted {_whose(mark.product, mark.account)} until {mark.until}"))
    for drain in of.drained:
        out.print(line(f"{indent}drained {drain.model}{f' until {drain.until}' if drain.until is not None else ''}"))
    for window in of.quotas:
        resets = f", resets at {window.resets_at}" if window.resets_at is not None else ""
        whose = _whose(window.product, window.account)
        out.print(line(f"{indent}quota {whose}, {window.window}: {window.utilisation:.0%}{resets}"))


def _whose(product: str, account: str | None) -> str:
    return product if account is None else f"{product} of {account}"


def _row(model: ModelView) -> tuple[str, ...]:
    slots = model.slots
    retiring = f" (+{slots.retiring} retiring)" if slots.retiring else ""
    accounts = ", ".join(cell.account for cell in model.cells if cell.account is not None)
    usage = max((cell.usage for cell in model.cells), default=0.0)
    refused = [cell for cell in model.cells if cell.gate is not None]
    flags = sorted({flag for cell in model.cells for flag in cell.flags})
    if refused and len(refused) < len(model.cells):
        state = "; ".join(f"{cell.gate} of {cell.account or 'no account'}" for cell in refused)
    elif refused:
        gate = refused[0].gate
        ends = min((cell.until for cell in refused if cell.gate == gate and cell.until is not None), default=None)
        state = f"{gate} until {ends}" if ends is not None else str(gate)
    else:
        state = ", ".join(flags) or "open"
    return (
        *(f"  {model.model}", str(model.tier), f"{slots.free}{retiring}", str(slots.leased), str(slots.lost)),
        *(accounts, f"{usage:.0%}" if usage else "", state),
    )


def _print_recommendation(found: Recommendation) -> None:
    if found.outcome == "routed":
        out.print(line(f"{found.model} ({found.slot_id}): {found.reason}"))
    else:
        place = f", place {found.position}" if found.position is not None else ""
        out.print(line(f"It would be {found.outcome} ({found.reason_code}{place}): {found.reason}"))
    if found.alternatives:
        grid = Table("  model", "verdict", "score", box=None)
        for model, verdict in found.alternatives.items():
            score = verdict.score
            grid.add_row(f"  {model}", verdict.gate, "" if score is None else f"{score:.3f}")
        out.print(grid)
    if found.estimated_cost_usd is not None:
        out.print(f"Estimated ${found.estimated_cost_usd:.4f}.")
