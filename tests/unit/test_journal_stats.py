"""Each step of the journal is counted once, and the comparison names every number that does not agree."""

from __future__ import annotations

from io import StringIO
from typing import Any

import pytest
from msgspec.structs import replace
from rich.console import Console

from schemas.decision import Finished, TaskChanged, TaskRow, TaskStatus
from schemas.events import TaskPending
from schemas.steps import encode_step
from schemas.vocabulary import Millis
from streams.local.board import line
from streams.local.remains import Remains, audit_lacks
from streams.local.result import compare, summarise
from streams.local.watch import Counts
from streams.sample.play import SampleProgress
from streams.views.dead_letters import DeadLetterView, NewDeadLetters
from streams.views.journal_stats import JournalStats
from tests.support.boards import board_of
from tests.support.builders import START_MS, decision, step

NOW = Millis(START_MS)
WAITING = TaskStatus(state="waiting", attempt=1, since_ms=NOW, accepted_ms=NOW, headline="capable_busy")
NOTHING = dict.fromkeys(
    ("task.pending", "slot.freed", "fleet.control", "decision.audit", "task.routed", "task.await_slot",
     "task.cancelled", "task.finished",
     "task.pending.dlq", "slot.freed.dlq", "fleet.control.dlq"), 0,
)  # fmt: skip


def pending(task_id: str, title: str = "") -> TaskRow:
    """Build a task that waits."""
    task = TaskPending(task_id=task_id, pool="main", at="2026-11-21T10:00:00Z", title=title)
    return TaskRow(task=task, at_ms=NOW, status=WAITING)


def counts(**more: int) -> Counts:
    """Build a look at topics and audit at which everything agrees with nothing, but for what is named."""
    fields: dict[str, Any] = {
        "inputs_unhandled": 0,
        "journal_unread": 0,
        "audit_steps": 0,
        "audit_decisions": 0,
        **more,
    }
    return Counts(records=NOTHING, **fields)


def read(join_at: int, *seqs: int, first: int = 0) -> JournalStats:
    """Count the steps of a journal that is joined at an offset; its records, from `first` on, carry these numbers."""
    stats = JournalStats()
    stats.join(0, join_at)
    for offset, seq in enumerate(seqs, start=first):
        stats.read(0, offset, encode_step(step(seq)))
    return stats


def test_a_step_whose_number_is_taken_does_not_count() -> None:
    """A worker that came back from a pause appended it; no reader takes it."""
    stats = read(0, 0, 0, 1)
    assert (stats.steps, stats.steps_fenced, stats.inputs["task.pending"]) == (2, 1, 2)


def test_a_journal_may_be_joined_in_its_middle() -> None:
    """The records before it say which step is next, even where the last of them is fenced."""
    stats = read(3, 40, 41, 39, 42, 43)
    assert (stats.first_seq, stats.steps) == ({0: 42}, 2)
    assert read(7, 42, 43, first=7).first_seq == {0: 42}, "nothing is left of what was before"


def test_behind_a_gap_nothing_is_counted_and_the_board_says_so() -> None:
    """Numbers that only look right would be worse."""
    stats = read(0, 0, 2, 3)
    assert stats.steps == 1
    want = "goes from step 0 to step 2 at offset 1: step 1 is missing"
    assert want in line(stats, None, None, 0.0, NewDeadLetters())
    screen = Console(file=StringIO(), width=200)
    screen.print(board_of(stats))
    assert want in screen.file.getvalue()  # type: ignore[attr-defined]
    assert want in next(compare(stats, counts(), None))


def test_a_task_is_live_until_it_is_finished() -> None:
    """Status and headline follow the task; a finished task is not counted."""
    stats = JournalStats()
    stats.add(step(0, tasks=(pending("t-1"),)))
    assert (stats.status, stats.headlines) == ({"waiting": 1}, {"capable_busy": 1})
    running = TaskStatus(state="running", attempt=1, since_ms=NOW, accepted_ms=NOW, slot_id="s", lease=1)
    stats.add(step(1, tasks_changed=(TaskChanged(pool="main", task_id="t-1", status=running),)))
    assert (stats.status, stats.headlines) == ({"running": 1}, {})
    stats.add(step(2, finished=(Finished(pool="main", task_id="t-1", at_ms=NOW, what="success"),)))
    assert stats.live_tasks == 0
    assert stats.status == {}


def test_numbers_that_agree_have_nothing_to_say() -> None:
    """An empty journal and an empty audit agree."""
    assert list(compare(JournalStats(), counts(), None)) == []
    assert summarise(JournalStats(), counts(), progress=None, seconds=1.0, restarts={}).agree


@pytest.mark.parametrize(
    ("seen", "progress", "want"),
    [
        pytest.param(
            {"inputs_unhandled": 3}, None, "3 inputs stand in the topics", id="an input that was never handled"
        ),
        pytest.param({"journal_unread": 2}, None, "2 journal records", id="a journal that was not read to its end"),
        pytest.param({"audit_steps": 7}, None, "0 steps and the audit 7", id="more steps in the audit than happened"),
        pytest.param({"audit_decisions": 1}, None, "0 decisions and the audit 1", id="a row without a decision"),
        pytest.param({}, SampleProgress(tasks=5, sent=4), "1 tasks of the sample", id="a sample that is not sent yet"),
    ],
)
def test_a_number_that_disagrees_is_named(seen: dict[str, int], progress: SampleProgress | None, want: str) -> None:
    """Each broken promise is one sentence with both numbers, and the result does not agree."""
    (found,) = compare(JournalStats(), counts(**seen), progress)
    assert want in found
    assert not summarise(JournalStats(), counts(**seen), progress=progress, seconds=1.0, restarts={}).agree


def test_a_task_left_over_is_a_disagreement_of_a_sample_only() -> None:
    """Without a sample tasks may wait for missing slots; all tasks of the sample must end."""
    stats = JournalStats()
    stats.add(step(0, tasks=(pending("t-1"),)))
    seen = counts(audit_steps=1)
    assert list(compare(stats, seen, None)) == []
    assert list(compare(stats, seen, SampleProgress(tasks=1, sent=1, all_sent=True))) == ["1 tasks are not finished."]


def test_the_board_shows_titles_of_strangers_as_text() -> None:
    """What looks like markup is shown, and what would act on a terminal is spelled out."""
    stats = JournalStats()
    title = "[Bug]: [bold]\x1b[31mred"
    stats.add(step(0, tasks=(pending("t-1", title),)))
    stats.add(step(1, decision(task_id="t-1", decided_at_ms=NOW + 1500, waiting_since_ms=NOW)))
    console = Console(file=StringIO(), width=160, color_system=None)
    console.print(board_of(stats, counts=counts()))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[Bug]: [bold]\\u001b[31mred" in shown
    assert "\x1b" not in shown
    assert "wait p50 1.5 s" in line(stats, counts(), None, 1.0, NewDeadLetters())


def test_the_board_names_the_newest_dead_letter_until_none_is_new() -> None:
    """In the reason's own words, harmless on a terminal, and cut to the board's width."""
    stats = JournalStats()
    stats.rejected["slot.freed"] = 2
    view = DeadLetterView(
        dead_letter="slot.freed/0/1", topic="slot.freed", partition=0, offset=1, at="2026-11-21T10:00:00Z", age_s=61,
        reason="No model \x1b[31mopsu." + "x" * 300, id="s-1", pool="main", given_up=False, origin=None, state="new",
        marked=None,
    )  # fmt: skip
    shown = {}
    for name, new in (("some", NewDeadLetters(count=2, newest=view)), ("none", NewDeadLetters())):
        console = Console(file=StringIO(), width=160, color_system=None)
        console.print(board_of(stats, counts=counts(), new=new))
        shown[name] = console.file.getvalue()  # type: ignore[attr-defined]
    assert "dead letters  2 new: No model \\u001b[31mopsu.x" in shown["some"]
    assert shown["some"].count("\n") == shown["none"].count("\n")
    assert "dead letters  2, none new" in shown["none"]
    said = line(stats, counts(), None, 1.0, NewDeadLetters(count=2, newest=view))
    assert ". 2 dead letters are new; the newest came 1 min ago on slot.freed (s-1): No model \\u001b[31mopsu." in said


def test_waits_are_percentiles_by_nearest_rank() -> None:
    """Half of four waits are no longer than the second; before the first there is none."""
    stats = JournalStats()
    assert stats.wait_ms(50) is None
    stats.waits_ms.extend([4, 1, 3, 2])
    assert [stats.wait_ms(percent) for percent in (0, 50, 95, 100)] == [1, 2, 4, 4]


def test_what_remains_is_said_and_is_lost_where_the_broker_forgets() -> None:
    """Inputs that a durable broker has are decided later; the audit's lack is named either way."""
    remains = Remains(undecided={"task.pending": 7}, named=("t-1", "t-2"))
    assert remains.lost
    assert list(remains.sentences()) == [
        "7 sent inputs were never decided (7 of task.pending): t-1, t-2, ...; send them again."
    ]
    durable = replace(remains, durable=True)
    assert not durable.lost
    assert "decided at the next start" in " ".join(durable.sentences())
    lacking = replace(durable, audit_lacks=tuple(audit_lacks(JournalStats(), counts(audit_steps=1))))
    assert lacking.lost
    assert "0 steps and the audit 1." in next(lacking.sentences())
    assert (list(Remains().sentences()), Remains().lost) == ([], False)
