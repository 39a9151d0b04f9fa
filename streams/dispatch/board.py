"""What a dispatcher shows: a table of its slots on a terminal, a sentence for each event elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.dispatch.served_slot import Happened, ServedSlot, SlotState
from streams.text import printable

_STYLE: Final[dict[SlotState, str]] = {
    "starting": "dim",
    "free": "green",
    "working": "cyan",
    "stopping": "yellow",
    "left": "dim",
}


def board(slots: Sequence[ServedSlot], *, title: str, notes: Sequence[str]) -> RenderableType:
    """Return the table for a terminal; `notes` stand below it."""
    table = Table(box=None, padding=(0, 1), expand=True, show_edge=False, header_style="dim")
    table.add_column("slot", no_wrap=True)
    table.add_column("model", no_wrap=True)
    table.add_column("account", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("task", ratio=3, no_wrap=True, overflow="ellipsis")
    table.add_column("since", justify="right", no_wrap=True)
    table.add_column("done", justify="right", no_wrap=True)
    table.add_column("failed", justify="right", no_wrap=True)
    table.add_column("last", ratio=2, no_wrap=True, overflow="ellipsis")
    for served in slots:
        task, spec = served.task, served.slot.spec
        table.add_row(
            Text(spec.slot_id),
            Text(spec.model),
            Text(spec.account or "-"),
            Text(served.state, style=_STYLE[served.state]),
            Text(printable(f"{task.task_id}  {task.title}") if task is not None else ""),
            Text(_seconds(served.job.elapsed_s) if served.job is not None else ""),
            Text(str(served.succeeded)),
            Text(str(served.failed), style="red" if served.failed else ""),
            Text(printable(served.last), style="dim"),
        )
    return Panel(Group(table, *(Text(printable(note), style="dim") for note in notes)), title=title)


def sentence(happened: Happened) -> str:
    """Return an event in words."""
    slot, task = happened.slot_id, f"{happened.task_id} on {happened.slot_id}"
    match happened.event:
        case "waiting":
            text = f"{slot}: {happened.reason}"
        case "announced":
            text = f"{slot} is in service."
        case "begun":
            text = f"{task}: begun, attempt {happened.attempt}."
        case "stopping":
            text = f"{task}: stopping, because of {happened.reason}."
        case "ended" if happened.exit_code is None:
            text = f"{task}: {happened.reason}"
        case "ended":
            how = f"ended with {happened.exit_code} after {happened.latency_s:.1f} s; log: {happened.log}."
            text = " ".join((f"{task}: {how}", *happened.notes))
        case "reported" if happened.status == "none":
            text = f"{task}: no outcome is reported."
        case "reported":
            why = f" ({happened.error_class})" if happened.error_class else ""
            text = f"{task}: reported as {happened.status}{why}."
        case "draining":
            text = "No new work; waiting for what runs. Once more ends it."
        case "left":
            text = f"{slot} is out of service."
        case "trouble":
            text = happened.reason
        case _:
            text = "The broker takes reports again."
    return text


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"
