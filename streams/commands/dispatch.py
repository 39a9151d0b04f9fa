"""`slotwise dispatch`: a ready dispatcher, which runs a command for each task of its slots."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from streams.commands.console import err, line, out
from streams.commands.options import EVERYTHING, takes
from streams.ending import STOP_S_MAX, end_after
from streams.settings import KAFKA_GROUP, Settings

if TYPE_CHECKING:
    from streams.dispatch.dispatch import Dispatch
    from streams.dispatch.fleet import Fleet
    from streams.dispatch.served_slot import Happened

app = typer.Typer()

#: The table is drawn so often.
DRAW_S: Final = 0.25
#: Events that stand under the table.
NOTES: Final = 3


@app.command(
    epilog="Example: slotwise dispatch --pool agents --slot h-1=haiku --slot s-1=sonnet@acct-2 --exec ./run.sh",
)
@takes(
    *("broker", "topic_prefix", "group", "partitions", "catalog", "policy", "log_level", "log_json"),
    *(name for name in EVERYTHING if name.startswith(KAFKA_GROUP)),
    join=True,
)
def dispatch(
    settings: Settings,
    *,
    file: Annotated[
        Path | None, typer.Argument(help="Fleet of slots and commands, as TOML: docs/dispatch.md.", metavar="[FLEET]")
    ] = None,
    slot: Annotated[
        list[str] | None,
        typer.Option("--slot", help="A slot, ID=MODEL or ID=MODEL@ACCOUNT; once for each.", metavar="SLOT"),
    ] = None,
    exec_line: Annotated[
        str | None,
        typer.Option("--exec", help="Shell line that does a task: the task is on its input and in TASK_FILE."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Run a known agent program instead: claude, codex, gemini or ollama.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Pool of the slots. Default: main.", show_default=False)] = None,
    ttl_s: Annotated[
        float | None,
        typer.Option(
            "--ttl", min=1.0, max=86_400.0, help="A slot that is silent for so many seconds is lost. Default: 60."
        ),
    ] = None,
    grace_s: Annotated[
        float | None,
        typer.Option("--grace", min=0.0, max=3600.0, help="Seconds from TERM to KILL. Default: 10."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event, for programs.")] = False,
) -> None:
    """Serve slots: announce them, run a command for each task that is routed to them, report how it ended.

    It serves until Ctrl-C or SIGTERM: then it takes no new work and waits for what runs; the second time it ends that.
    """
    from streams.dispatch.fleet import FleetFile, fleet_of, read_file, with_options  # noqa: PLC0415

    options = with_options(
        FleetFile() if file is None else read_file(file),
        slots=slot or [],
        exec_line=exec_line,
        preset=preset,
        changed={"pool": pool, "ttl_s": ttl_s, "grace_s": grace_s},
    )
    fleet = fleet_of(options, base=Path() if file is None else file.parent, outer=os.environ)
    _check_models(settings, fleet)
    asyncio.run(_run(settings, fleet, as_json=as_json))


def _check_models(settings: Settings, fleet: Fleet) -> None:
    """Refuse models that neither the files nor the rules in force know, where this user may look."""
    from schemas.events import SlotFreed  # noqa: PLC0415
    from schemas.vocabulary import from_millis  # noqa: PLC0415
    from streams.clock import SystemClock  # noqa: PLC0415
    from streams.dispatch.fleet import check_models  # noqa: PLC0415
    from streams.operate.known_names import Known  # noqa: PLC0415 - brings the Kafka client along
    from streams.operate.read_partitions import read_partitions  # noqa: PLC0415
    from streams.topics import allows, check_topics  # noqa: PLC0415

    check_topics(settings, "dispatcher")
    if not allows(settings, "reader"):
        err.print("Models are not looked up: the broker does not let this user read the journal.")
        return
    known = Known(settings, lambda number: asyncio.run(read_partitions(settings, [number]))[number])
    at = from_millis(SystemClock().now_ms())
    specs = [one.spec for one in fleet.slots]
    check_models(
        fleet,
        [known.refusal(SlotFreed(slot_id=one.slot_id, pool=one.pool, model=one.model, at=at)) for one in specs],
    )


async def _run(settings: Settings, fleet: Fleet, *, as_json: bool) -> None:
    from streams.client.dispatcher import Dispatcher  # noqa: PLC0415 - brings the Kafka client along
    from streams.client.kafka_wire import KafkaWire  # noqa: PLC0415
    from streams.clock import SystemClock  # noqa: PLC0415
    from streams.dispatch.dispatch import Dispatch  # noqa: PLC0415
    from streams.logs import configure  # noqa: PLC0415

    configure(settings, silent=("aiokafka", "kafka"))
    screen = _Screen(as_json=as_json)
    client = Dispatcher(KafkaWire(settings))
    dispatch = Dispatch(fleet, client, Path(settings.data_dir) / "dispatch", SystemClock(), screen.report)
    stop, kill = _asked(settings)
    drawing = asyncio.create_task(screen.draw(dispatch))
    try:
        await dispatch.run(stop, kill)
    finally:
        drawing.cancel()
        await asyncio.gather(drawing, return_exceptions=True)


def _asked(settings: Settings) -> tuple[asyncio.Event, asyncio.Event]:
    """Return what the first signal sets, and what the second one does, after which the process ends soon."""
    stop, kill = asyncio.Event(), asyncio.Event()
    late = (
        f"The broker at {settings.broker} does not answer, and the dispatcher ends without it: work that it could not "
        "report is pending again when its lease ends, or when the dispatcher is back."
    )

    def ask() -> None:
        if stop.is_set() and not kill.is_set():
            kill.set()
            end_after(STOP_S_MAX, late)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, ask)
    return stop, kill


class _Screen:
    """Where events go: lines of JSON, a table with the last of them below, or sentences."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._is_table = out.is_terminal and not as_json
        self._notes: deque[str] = deque(maxlen=NOTES)

    def report(self, happened: Happened) -> None:
        """Show an event."""
        from streams.dispatch.board import sentence  # noqa: PLC0415

        if self._as_json:
            typer.echo(msgspec.json.encode(happened))
        elif self._is_table:
            self._notes.append(f"{happened.at[11:19]}  {sentence(happened)}")
        else:
            out.print(line(f"{happened.at}  {sentence(happened)}"))

    async def draw(self, dispatch: Dispatch) -> None:
        """Draw the table, until this is cancelled."""
        from streams.dispatch.board import board  # noqa: PLC0415

        if not self._is_table:
            return
        with Live(console=Console(), auto_refresh=False) as live:
            while True:
                notes = [*self._notes, *filter(None, [dispatch.trouble])]
                title = "slotwise dispatch" + (" (no new work; once more ends what runs)" if dispatch.draining else "")
                live.update(board(dispatch.slots, title=title, notes=notes), refresh=True)
                await asyncio.sleep(DRAW_S)
