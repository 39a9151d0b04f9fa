"""`slotwise tasks`, `slots` and `wait`: what waits, what runs where, and the end of one task. They change nothing."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import typer
from rich.table import Table

from schemas.refusals import clip
from streams.commands.console import busy, err, line, out, print_json
from streams.commands.control import PANEL, SETTINGS, login
from streams.commands.options import Json, takes
from streams.errors import FAILED
from streams.settings import Settings
from streams.views.listing import OWNER, SlotLine, TaskEnd, TaskLine, word_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from streams.core.router import Router

_Line = TypeVar("_Line", TaskLine, SlotLine)

app = typer.Typer()

TITLE_CHARS_MAX: Final = 40


@app.command("tasks", epilog="Example: slotwise tasks --pool main --waiting", rich_help_panel=PANEL)
@takes(*SETTINGS, join=True)
def tasks(
    settings: Settings,
    *,
    pool: Annotated[str | None, typer.Option(help="Only of this pool. Default: all.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Those that wait, or are delayed.")] = False,
    running: Annotated[bool, typer.Option("--running", help="Those that run.")] = False,
    mine: Annotated[bool, typer.Option("--mine", help=f"Those whose label `{OWNER}` is your login name.")] = False,
    as_json: Json = False,
) -> None:
    """List the tasks that are not finished, the longest-waiting first."""
    from streams.views import listing  # noqa: PLC0415 - the command has the same names

    states = frozenset({*(("waiting", "delayed") if waiting else ()), *(("running",) if running else ())})
    found = listing.tasks(_routers(settings, pool), pool=pool, states=states, owner=login() if mine else None)
    _print(found, _tasks, "No such task.", as_json=as_json)


@app.command("slots", epilog="Example: slotwise slots --pool main", rich_help_panel=PANEL)
@takes(*SETTINGS, join=True)
def slots(
    settings: Settings,
    *,
    pool: Annotated[str | None, typer.Option(help="Only of this pool. Default: all.")] = None,
    as_json: Json = False,
) -> None:
    """List the slots, what each does and since when."""
    from streams.views import listing  # noqa: PLC0415 - the command has the same names

    found = listing.slots(_routers(settings, pool), pool=pool)
    _print(found, _slots, "No slot is registered.", as_json=as_json)


@app.command("wait", epilog="Example: slotwise wait t-17 --timeout-s 600", rich_help_panel=PANEL)
@takes(*SETTINGS, join=True)
def wait(
    settings: Settings,
    *,
    task: Annotated[str, typer.Argument(help="The task's id.", show_default=False)],
    pool: Annotated[str | None, typer.Option(help="Its pool. Default: any that has it.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", min=0.0, max=604_800, help="Longest wait.")] = 3600.0,
    as_json: Json = False,
) -> None:
    """Wait until a task has ended, and say how.

    Exit code 0: it was done; 1: it ended otherwise, did not end in time, or is not known.
    """
    with busy(f"Waiting for {task}", quiet=as_json):
        found = asyncio.run(_end_of(settings, task, pool, timeout_s))
    if as_json:
        print_json(found)
    elif isinstance(found, TaskEnd):
        out.print(line(f"{task} in {found.pool}: {found.ended} at {found.at}."))
    elif found is None:
        err.print(line(f"No task {task} is known: it was not sent, or it ended more than a day ago."))
    else:
        err.print(line(f"{task} in {found.pool} has not ended within {timeout_s:g} s: it is {_state(found)}."))
    if not isinstance(found, TaskEnd) or found.ended != "done":
        raise typer.Exit(FAILED)


def _print(found: Sequence[_Line], grid: Callable[[Sequence[_Line]], Table], none: str, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        out.print(grid(found) if found else none)


def _routers(settings: Settings, pool: str | None) -> Sequence[Router]:
    from streams.topics import check_topics  # noqa: PLC0415 - brings the Kafka client along

    check_topics(settings)
    return asyncio.run(_read(settings, pool))


async def _read(settings: Settings, pool: str | None) -> Sequence[Router]:
    from streams.operate import read_partitions as reading  # noqa: PLC0415 - brings the Kafka client along

    found = await reading.read_partitions(settings, reading.partitions_of(settings, pool))
    return [one.router for one in found.values()]


async def _end_of(settings: Settings, task: str, pool: str | None, timeout_s: float) -> TaskLine | TaskEnd | None:
    """Return the end of a task; its present life where it does not end in time, None where it is not known."""
    from streams.client.ends import Ends  # noqa: PLC0415 - brings the Kafka client along
    from streams.client.kafka_wire import KafkaWire  # noqa: PLC0415
    from streams.logs import CLIENT_LOGGER  # noqa: PLC0415
    from streams.topics import check_topics  # noqa: PLC0415

    await asyncio.to_thread(check_topics, settings)
    # A broker that is away for a moment ends no wait, and its client would repeat itself for so long.
    logging.getLogger(CLIENT_LOGGER).setLevel(logging.CRITICAL)
    deadline_s = time.monotonic() + timeout_s
    wire = KafkaWire(settings)
    await wire.start()
    ends = Ends(wire)
    try:
        # Before the state is read, so that no end is missed in between.
        await ends.start()
        found = await _life(settings, task, pool, timeout_s)
        if not isinstance(found, TaskLine):
            return found
        try:
            async with asyncio.timeout(deadline_s - time.monotonic()):
                end = await ends.wait(found.pool, task, lambda _: True, look_back=False)
        except TimeoutError:
            # A router in shadow mode announces no ends.
            return await _life(settings, task, found.pool, 0.0) or found
        return TaskEnd(task_id=task, pool=end.pool, ended=word_of(end.status), at=end.at)
    finally:
        await ends.stop()
        await wire.stop()


async def _life(settings: Settings, task: str, pool: str | None, wait_s: float) -> TaskLine | TaskEnd | None:
    """Return what the routers know of a task that may still be on its way to them."""
    from streams.operate import known_names as known  # noqa: PLC0415 - brings the Kafka client along
    from streams.views import listing  # noqa: PLC0415 - for all of this file the same way

    until_s = time.monotonic() + min(known.ARRIVE_S_MAX, wait_s)
    while True:
        found = next(iter(listing.lives(await _read(settings, pool), task, pool)), None)
        if found is not None or time.monotonic() >= until_s:
            return found
        await asyncio.sleep(known.ARRIVE_POLL_S)


def _state(task: TaskLine) -> str:
    match task.state:
        case "waiting":
            return f"waiting ({task.headline})" if task.headline is not None else "waiting"
        case "delayed":
            return f"delayed until {task.due}"
        case _:
            return f"running on {task.slot_id}"


def _tasks(found: Sequence[TaskLine]) -> Table:
    grid = Table("task", "pool", "title", "state", "since", "priority", "EV", "attempt", box=None)
    for one in found:
        ev = "" if one.ev is None else f"{one.ev:g}"
        words = (one.task_id, one.pool, clip(one.title, TITLE_CHARS_MAX), _state(one), one.since)
        grid.add_row(*map(line, (*words, str(one.priority), ev, str(one.attempt))))
    return grid


def _slots(found: Sequence[SlotLine]) -> Table:
    grid = Table("slot", "pool", "model", "account", "state", "since", "task", "lease ends", box=None)
    for one in found:
        state = f"{one.state}, retired" if one.retired else one.state
        words = (one.slot_id, one.pool, one.model, one.account or "", state, one.since)
        grid.add_row(*map(line, (*words, one.task_id or "", one.lease_ends or "")))
    return grid
