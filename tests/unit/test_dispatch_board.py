"""What a dispatcher shows of its slots and of what happens to them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from rich.console import Console

from schemas.events import Outcome
from streams.dispatch.board import board, sentence
from streams.dispatch.job import Job
from streams.dispatch.served_slot import EventKind, Happened, ServedSlot
from streams.dispatch.slot_folder import SlotFolder
from tests.support.dispatch import routed, slot


@pytest.fixture
def served(tmp_path: Path) -> ServedSlot:
    """Give a slot before its announcement."""
    return ServedSlot(slot(tmp_path, exec="true"), SlotFolder(tmp_path, "agents", "s"))


def drawn(served: ServedSlot, *notes: str) -> str:
    """Give the table as text."""
    console = Console(width=120)
    with console.capture() as shown:
        console.print(board([served], title="slotwise dispatch", notes=notes))
    return shown.get()


def test_the_table_shows_what_each_slot_does_and_did(served: ServedSlot) -> None:
    """State, task with its title, counts, the last end; nothing of a title acts on the terminal."""
    assert "starting" in drawn(served)
    served.announced = True
    assert "free" in drawn(served)
    served.job = Job(served.slot, routed(title="Fix \x1b[31mtypo"))
    assert "t-1  Fix \\u001b[31mtypo" in drawn(served)
    served.stopping = "cancelled"
    assert "stopping" in drawn(served, "a note [red]")
    assert "a note [red]" in drawn(served, "a note [red]")
    served.job, served.stopping = None, None
    served.count(routed(), Outcome(task_id="t-1", status="success"))
    served.count(routed(), Outcome(task_id="t-1", status="failure", error_class="exit_3"))
    served.count(routed(), None)
    assert (served.succeeded, served.failed, served.last) == (1, 1, "t-1: stopped")


@pytest.mark.parametrize("event", get_args(EventKind))
def test_every_event_has_a_sentence(event: EventKind) -> None:
    """With a full stop at its end, and with the task where it concerns one."""
    happened = Happened(
        at="2026-11-29T10:00:00.000Z",
        event=event,
        slot_id="s",
        task_id="t-1",
        attempt=1,
        exit_code=3,
        latency_s=1.0,
        log="x.log",
        reason="No broker answers.",
        status="failure",
        error_class="exit_3",
    )
    text = sentence(happened)
    assert text.endswith(".")
    assert ("t-1 on s" in text) == (event in ("begun", "stopping", "ended", "reported"))


def test_work_that_could_not_be_run_or_was_stopped_says_so() -> None:
    """Without exit code and outcome."""
    at = "2026-11-29T10:00:00.000Z"
    ended = Happened(at=at, event="ended", slot_id="s", task_id="t", reason="It could not be run: no space.")
    assert sentence(ended) == "t on s: It could not be run: no space."
    reported = Happened(at=at, event="reported", slot_id="s", task_id="t", status="none")
    assert sentence(reported) == "t on s: no outcome is reported."
