"""Boards, and what a terminal of a given size shows of them.

`python -m tests.support.boards busy|empty` shows one on its terminal until Ctrl-C, as `slotwise up` does.
"""

from __future__ import annotations

import contextlib
import sys
import time
from io import StringIO
from typing import Any, Final

from rich.console import Console

from schemas.decision import SlotRow, TaskRow, TaskStatus
from schemas.events import TaskPending
from schemas.vocabulary import Millis
from streams.local.board import Board
from streams.local.terminal import board_on
from streams.views.dead_letters import NewDeadLetters
from streams.views.journal_stats import JournalStats
from tests.support.builders import START_MS, decision, step

#: Where the shown board's pages are.
PAGES: Final = "http://127.0.0.1:47110"
MODELS = ("opus", "gpt-5", "sonnet", "codex", "haiku", "minimax", "glm", "gemini-flash", "local")


def board_of(stats: JournalStats, **fields: Any) -> Board:
    """Give a board with these counts."""
    known: dict[str, Any] = {
        "counts": None,
        "progress": None,
        "rate_per_s": 1.0,
        "new": NewDeadLetters(),
        "title": "up",
        "notes": [],
    }
    return Board(stats=stats, **{**known, **fields})


def busy_fleet(tasks: int = 12) -> JournalStats:
    """Give a fleet of nine models that has routed tasks with long ids and titles, and others wait."""
    stats = JournalStats()
    slots = tuple(
        SlotRow(
            pool="main", slot_id=f"{model}-{number}", model=model, account=None, state="leased" if number else "free",
            since_ms=Millis(START_MS), lease=1,
        )
        for model in MODELS
        for number in range(3)
    )  # fmt: skip
    status = TaskStatus(
        state="waiting", attempt=1, since_ms=Millis(START_MS), accepted_ms=Millis(START_MS), headline="capable_busy"
    )
    rows = tuple(
        TaskRow(task=TaskPending(task_id=task_id(n), pool="main", at="2026-11-21T10:00:00Z", title=f"Title {n}" * 9),
                at_ms=Millis(START_MS), status=status)
        for n in range(tasks)
    )  # fmt: skip
    stats.add(step(0, tasks=rows, slots=slots))
    for n in range(tasks):
        routed = decision(
            task_id=task_id(n), of=n, decided_at_ms=START_MS + 1500, chosen_slot_id="gemini-flash-2",
            reason="Lowest capable tier for coding>=4; gemini-flash-2 is the least used one with 12 %.",
        )  # fmt: skip
        stats.add(step(n + 1, routed))
    return stats


def task_id(number: int) -> str:
    """As the sample names its tasks."""
    return f"sample-20261129T120000-{number:04}"


def screen_of(board: Board, width: int, height: int) -> list[str]:
    """Return the lines that a terminal of this size shows."""
    console = Console(file=StringIO(), width=width, height=height, color_system=None)
    console.print(board)
    lines: list[str] = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return lines


def main(which: str) -> None:
    """Show a board, frame after frame."""
    stats = busy_fleet() if which == "busy" else JournalStats()
    with contextlib.suppress(KeyboardInterrupt), board_on(Console(highlight=False)) as show:
        while True:
            show(board_of(stats, pages=PAGES))
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
