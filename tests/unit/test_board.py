"""The board fits its terminal, shows whole ids, explains its signs, and says what to type next."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from streams.local.board import LEGEND, showing
from streams.sample.play import SampleProgress
from streams.views.dead_letters import DeadLetterView, NewDeadLetters
from streams.views.journal_stats import JournalStats
from tests.support.boards import board_of, busy_fleet, screen_of, task_id

SIZES = [(60, 20), (80, 24), (100, 30), (120, 40), (200, 50), (40, 10), (20, 5)]
PAGES = {"pages": "http://there"}
NOTES = [f"The worker ended; it is started again (its log: /tmp/logs/worker-{number}.log)." for number in range(5)]


@pytest.mark.parametrize(("width", "height"), SIZES)
@pytest.mark.parametrize("notes", [[], NOTES], ids=["no notes", "many notes"])
def test_the_board_fits_the_terminal(width: int, height: int, notes: list[str]) -> None:
    """No line is wider and none is below its end; the border is whole."""
    shown = screen_of(board_of(busy_fleet(), notes=notes), width, height)
    assert len(shown) <= height
    assert {cell_len(line) for line in shown} == {width}
    assert (shown[0][0], shown[-1][0], shown[-1][-1]) == ("╭", "╰", "╯")


@pytest.mark.parametrize(("width", "height"), SIZES[:-2])
def test_the_newest_decision_is_shown_with_an_id_that_explain_takes(width: int, height: int) -> None:
    """Whole, on one line; so are the legend's words and what to type."""
    shown = screen_of(board_of(busy_fleet(), notes=NOTES), width, height)
    assert any(task_id(11) in line for line in shown), "\n".join(shown)
    text = " ".join(" ".join(line.strip("│ ") for line in shown).split())
    assert LEGEND in text
    assert "slotwise explain TASK" in text


def test_more_decisions_are_shown_where_there_is_more_room() -> None:
    """Up to all that are remembered."""

    def decisions(width: int, height: int) -> int:
        shown = screen_of(board_of(busy_fleet()), width, height)
        return sum(any(task_id(n) in line for line in shown) for n in range(12))

    assert (decisions(60, 20) >= 2, decisions(80, 24) >= 5, decisions(120, 40)) == (True, True, 8)


@pytest.mark.parametrize(
    ("stats", "fields", "want"),
    [
        pytest.param(JournalStats(), {}, "No slot yet. In another terminal: echo '{", id="nothing was sent"),
        pytest.param(
            JournalStats(),
            {"progress": SampleProgress(tasks=5)},
            "The sample is about to send its first tasks.",
            id="the sample begins",
        ),
        pytest.param(busy_fleet(0), {}, "| slotwise send task --now", id="slots and no task"),
        pytest.param(busy_fleet(), {"option": " --data-dir x"}, "slotwise explain TASK --data-dir x", id="at work"),
    ],
)
def test_the_board_says_what_to_type_next(stats: JournalStats, fields: dict[str, object], want: str) -> None:
    """By what there is; with the option that finds this installation."""
    assert want in board_of(stats, **fields).next()
    assert want.split(maxsplit=1)[0] in " ".join(screen_of(board_of(stats, **fields), 80, 24))


def test_a_sample_that_is_done_says_so_with_an_id_to_ask_about() -> None:
    """When all is sent and nothing is left."""
    stats = busy_fleet(2)
    progress = SampleProgress(tasks=2, sent=2, all_sent=True)
    assert "The sample is done" not in board_of(stats, progress=progress).next()
    for pool, name in list(stats._tasks):
        stats._stand(pool, name, None)
    want = f"The sample is done. In another terminal: slotwise explain {task_id(1)}"
    assert board_of(stats, progress=progress).next() == want


@pytest.mark.parametrize(("more", "want"), [(9, "■■□□□□□□□□□□"), (10, "2 of 13"), (1000, "2 of 1003")])
def test_many_slots_of_a_model_are_a_number(more: int, want: str) -> None:
    """A dozen are blocks; a thousand blocks would be all there is."""
    stats = busy_fleet()
    row = next(iter(stats.slots.values()))
    for number in range(more):
        stats.slots["main", f"many-{number}"] = row
    shown = "".join(screen_of(board_of(stats), 80, 24))
    assert want in " ".join(shown.replace("││", " ").split())


def test_a_dead_letter_and_a_journal_that_stopped_are_shown_on_the_smallest_terminal() -> None:
    """They come before decisions and notes."""
    letter = DeadLetterView(
        dead_letter="task.pending/0/0", topic="task.pending", partition=0, offset=0, at="2026-11-21T10:00:00Z",
        age_s=1, reason="It cannot be read. " * 9, id=None, pool=None, given_up=False, origin=None, state="new",
        marked=None,
    )  # fmt: skip
    stats = busy_fleet()
    stats.join(0, 0)
    stats.read(0, 0, b"{}")
    shown = " ".join(screen_of(board_of(stats, new=NewDeadLetters(count=3, newest=letter), notes=NOTES), 60, 20))
    assert "3 new:" in shown
    assert "Counting stopped" in shown


def test_every_frame_covers_the_whole_terminal_also_after_a_resize() -> None:
    """So nothing of an older frame is left; at the end the last board stays in the terminal's own lines."""
    out = StringIO()
    console = Console(
        file=out, force_terminal=True, color_system=None, width=120, height=40, _environ={"TERM": "xterm"}
    )
    with showing(console) as show:
        for width, height in ((120, 40), (60, 20), (80, 24)):
            console.size = (width, height)
            out.truncate(0)
            out.seek(0)
            show(board_of(busy_fleet()))
            frame = out.getvalue().rpartition("\x1b[H")[2]
            assert [cell_len(line) for line in frame.splitlines()] == [width] * height
    stays = out.getvalue().partition("\x1b[?1049l")[2]
    assert stays.count("╭") == 1
    assert task_id(11) in stays


def test_the_board_names_the_key_only_where_it_opens_the_pages() -> None:
    """Else it says where they are; a board without pages says nothing of them."""
    below = [screen_of(board_of(busy_fleet(), **way), 80, 24)[-1] for way in ({}, PAGES, {**PAGES, "key": "o"})]
    assert ["there" in line for line in below] == [False, True, True]
    assert "pages: http://there" in below[1]
    assert "o: open http://there in a browser" in below[2]
