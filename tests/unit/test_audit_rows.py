"""A step becomes rows that Postgres takes, exact in money and time."""

from __future__ import annotations

import json
import re

import msgspec
import pytest
from msgspec import Raw

from schemas.decision import ControlTaken, Duplicate, MoneyMovement, TaskRow, TaskStatus
from schemas.events import TaskPending
from schemas.vocabulary import MicroUsd, Millis
from streams.database.sql import QUERIES, parse
from streams.sinks import rows
from streams.sinks.cursor import Cursor
from streams.sinks.ports import BEFORE_FIRST, JournaledStep, JournalRecord
from tests.support.builders import START_MS, decision, journal, step, task, work


def journaled(*decisions: object, **named: object) -> JournaledStep:
    """Give a step of these decisions as the journal would give it."""
    taken = Cursor(0, BEFORE_FIRST).take(JournalRecord(0, 7, 0, journal([step(0, *decisions, **named)])[0]))  # type: ignore[arg-type]
    assert taken is not None
    return taken


def named(query: str, line: str) -> dict[str, str | None]:
    """Give a row as Postgres would read it, by the names of the query's columns."""
    assert line.endswith("\n")
    row = [None if text == "\\N" else _plain(text) for text in line[:-1].split("\t")]
    columns = re.search(r"\(([^)]*)\)", QUERIES[query])
    assert columns is not None
    return dict(zip(re.split(r",\s*", columns.group(1).strip()), row, strict=True))


def _accepted(event: TaskPending) -> TaskRow:
    status = TaskStatus(state="waiting", attempt=1, since_ms=Millis(0), accepted_ms=Millis(0))
    return TaskRow(task=event, at_ms=Millis(0), status=status)


def test_a_decision_names_its_step_its_input_and_its_journal() -> None:
    """A row can be found in the journal again."""
    one = journaled(decision(input_offset=41, saved_vs_premium_uusd=120_000, lifted=True))
    row = named("copy_decisions", next(iter(rows.decision_lines("j", one))))
    assert row["partition"] == row["input_partition"] == row["seq"] == "0"
    assert row["input_offset"] == "41"
    assert row["journal"] == "j"
    assert row["decided_at"] == "2026-11-21T10:00:00.000Z"
    assert row["saved_vs_premium_usd"] == "120000e-6"
    assert row["lifted"] == "t"
    assert row["policy"] == "policy-1"


def test_a_step_says_what_it_holds() -> None:
    """Its numbers, its counts and its hashes."""
    one = journaled(decision(), decision(task_id="t-2"))
    row = named("copy_steps", rows.step_line("j", one))
    assert (row["journal_offset"], row["inputs"], row["decisions"], row["work"]) == ("7", "2", "2", "0")
    assert row["record_sha256"] == f"\\x{one.sha256.hex()}"


@pytest.mark.rule("amend.33")
def test_a_step_says_which_tasks_were_sent_again_for_nothing() -> None:
    """As JSON for explain; absent where there are none."""
    once = Duplicate("main", "t-1", Millis(START_MS + 1), "done", Millis(START_MS))
    row = named("copy_steps", rows.step_line("j", journaled(duplicates=(once, once))))
    assert (
        json.loads(row["duplicates"] or "")
        == [
            {
                "pool": "main",
                "task_id": "t-1",
                "at": "2026-11-21T10:00:00.001Z",
                "ended": "done",
                "ended_at": "2026-11-21T10:00:00.000Z",
            }
        ]
        * 2
    )
    assert named("copy_steps", rows.step_line("j", journaled()))["duplicates"] is None


def test_an_outcome_is_joined_to_its_decision() -> None:
    """Dollars reported as a float are rounded to millionths once."""
    routed = decision()
    one = journaled(work=(work(routed, cost_usd=0.0410004, accepted=False, fit="good_fit"),))
    row = named("copy_outcomes", next(iter(rows.outcome_lines("j", one))))
    assert row["decision_id"] == routed.decision_id
    assert row["cost_usd"] == "41000e-6"
    assert row["actual_cost_usd"] is None
    assert row["accepted"] == "False"
    assert row["quality"] is None


def test_a_first_decision_has_what_the_task_asked_for() -> None:
    """What the gates looked at, defaults left out; a later decision about the task does not repeat it."""
    pending = task(
        "t-1", requires={"coding": 8}, input_tokens=1800, title="Fix typo", lane="docs", deny_providers=("x",)
    )
    one = journaled(decision(), decision(task_id="t-2"), tasks=(_accepted(pending),))
    first, second = (named("copy_decisions", line) for line in rows.decision_lines("j", one))
    assert json.loads(str(first["asked"])) == {"requires": {"coding": 8}, "input_tokens": 1800, "deny_providers": ["x"]}
    assert second["asked"] is None


def test_the_audit_keeps_every_field_that_a_rule_reads() -> None:
    """As the task has it, so that `explain --why-not` asks the rules the same question; defaults are left out."""
    asked = {
        "requires": {"coding": 8},
        "input_tokens": 1800,
        "output_tokens": 0,
        "quest_priority": 95,
        "max_tier": 2,
        "local_only": True,
        "allow_providers": ["x"],
        "deny_providers": ["y"],
        "floor_model": "haiku",
    }
    event = msgspec.convert(msgspec.to_builtins(task("t-1", title="Not kept")) | asked, TaskPending)
    row = _accepted(event)
    (line,) = rows.decision_lines("j", journaled(decision(), tasks=(row,)))
    assert json.loads(str(named("copy_decisions", line)["asked"])) == asked


@pytest.mark.rule("record.title")
@pytest.mark.parametrize(
    "title", ["Fix typo in README", "a\tb\nc\\d", "\\N", "f", "\u202e\x1b[2J", "caf\u00e9 \U0001f600"]
)
def test_a_decision_has_the_title_of_its_task(title: str) -> None:
    """Character by character; a setting leaves it out, and a decision of an older worker has none."""
    one = journaled(decision(title=title), decision(task_id="t-2"))
    first, second = (named("copy_decisions", line) for line in rows.decision_lines("j", one))
    assert first["title"] == title
    assert (second["title"], second["mode"]) == (None, "live")
    without = named("copy_decisions", next(iter(rows.decision_lines("j", one, titles=False))))
    assert without == {**first, "title": None}


def test_a_title_with_what_postgres_refuses_is_kept_but_for_that() -> None:
    """NUL stops no audit."""
    line = next(iter(rows.decision_lines("j", journaled(decision(title="a\0b")))))
    assert named("copy_decisions", line)["title"] == "a\N{REPLACEMENT CHARACTER}b"


def test_flags_are_an_array_of_texts() -> None:
    """Plain words stay; characters with a meaning in arrays or in COPY are escaped."""
    one = journaled(decision(flags=("watching", 'say "\\"'), priced_at="2026-11-21"))
    row = named("copy_decisions", next(iter(rows.decision_lines("j", one))))
    assert row["flags"] == r'{"watching","say \"\\\""}'
    assert row["priced_at"] == "2026-11-21"
    assert named("copy_decisions", next(iter(rows.decision_lines("j", journaled(decision())))))["flags"] == "{}"


def test_an_operators_event_has_its_sender_and_time() -> None:
    """An absent field is NULL; the whole event is stored as JSON that Postgres accepts."""
    event = (
        b'{"kind":"model.drained","control_id":"c-1","at":"2026-11-21T10:00:00.000Z","by":"o\\u0000ps","model":"opus"}'
    )
    one = journaled(controls=(ControlTaken(control_id="c-1", at_ms=Millis(1), kind="model.drained", event=Raw(event)),))
    row = named("copy_controls", next(iter(rows.control_lines("j", one))))
    assert (row["by"], row["pool"], row["at"]) == ("o\N{REPLACEMENT CHARACTER}ps", None, "2026-11-21T10:00:00.000Z")
    assert row["taken_at"] == "1970-01-01T00:00:00.001Z"
    assert json.loads(str(row["event"]))["model"] == "opus"


def test_movements_of_money_are_numbered_within_their_step() -> None:
    """Two of one step differ by their place."""
    credit = MoneyMovement(
        pool="main", tenant_id="acme\t", kind="credit", amount_uusd=MicroUsd(-5), at_ms=Millis(1), control_id="c-1"
    )
    lines = [named("copy_money", line) for line in rows.money_lines("j", journaled(money=(credit, credit)))]
    assert [line["place"] for line in lines] == ["0", "1"]
    assert lines[0]["tenant_id"] == "acme\t"
    assert lines[0]["amount_usd"] == "-5e-6"
    assert lines[0]["decision_id"] is None


def test_characters_that_postgres_refuses_are_replaced_and_no_others() -> None:
    """NUL hides in texts, and behind an escape in alternatives; an escaped backslash before `u0000` is plain text."""
    one = journaled(
        decision(
            reason="a\x00b", layer="docs", alternatives={"bad\x00": {"gate": "ok"}, "fine\\u0000": {"gate": "busy"}}
        )
    )
    row = named("copy_decisions", next(iter(rows.decision_lines("j", one))))
    assert row["reason"] == "a\N{REPLACEMENT CHARACTER}b"
    assert row["layer"] == "docs"
    assert set(json.loads(str(row["alternatives"]))) == {"bad\N{REPLACEMENT CHARACTER}", "fine\\u0000"}


def test_what_means_something_to_copy_is_escaped() -> None:
    """A tab is no new column, a line end no new row, and a backslash with an N no missing value."""
    texts = {"reason": "a\tb\nc\r", "layer": "\\N", "lane": 'say "no"', "tenant_id": "\\."}
    row = named("copy_decisions", next(iter(rows.decision_lines("j", journaled(decision(**texts))))))
    assert {name: row[name] for name in texts} == texts


def test_alternatives_that_were_written_with_white_space_stay_one_row() -> None:
    """Another program's JSON may have line ends between its texts."""
    one = journaled(decision(alternatives=Raw(b'{\n\t"opus": {"gate": "busy"}\r\n}')))
    row = named("copy_decisions", next(iter(rows.decision_lines("j", one))))
    assert json.loads(str(row["alternatives"])) == {"opus": {"gate": "busy"}}


def test_half_a_surrogate_pair_is_replaced() -> None:
    """No valid record holds one, but a text made in memory can."""
    assert rows.escaped("a\ud800b") == "a\N{REPLACEMENT CHARACTER}b"


def test_a_query_has_one_name() -> None:
    """Two queries of one name, or SQL before the first name, are mistakes."""
    assert parse("-- one --\nSELECT 1\n\n-- two --\n-- Why.\nSELECT 2") == {
        "one": "SELECT 1",
        "two": "-- Why.\nSELECT 2",
    }
    with pytest.raises(ValueError, match="two queries are called 'one'"):
        parse("-- one --\nSELECT 1\n-- one --\nSELECT 2")
    with pytest.raises(ValueError, match="SQL without a name"):
        parse("SELECT 1\n-- one --\nSELECT 2")


def _plain(text: str) -> str:
    """Undo what COPY's text format escapes."""
    return re.sub(r"\\(.)", lambda found: {"t": "\t", "n": "\n", "r": "\r"}.get(found[1], found[1]), text)
