"""A step becomes rows that Postgres takes, exact in money and time."""

from __future__ import annotations

import json
import re

import pytest

from streams.sinks import rows
from streams.sinks.follow import NOWHERE, Cursor, Journaled, Record
from streams.sinks.sql import QUERIES, parse
from tests.builders import decision, journal, step, work


def journaled(*decisions: object, **named: object) -> Journaled:
    """Give a step of these decisions as the journal would give it."""
    taken = Cursor(0, NOWHERE).take(Record(0, 7, 0, journal([step(0, *decisions, **named)])[0]))  # type: ignore[arg-type]
    assert taken is not None
    return taken


def named(query: str, row: rows.Row) -> dict[str, object]:
    """Give a row with the names that the query's columns have."""
    columns = re.search(r"\(([^)]*)\)", QUERIES[query])
    assert columns is not None
    return dict(zip(re.split(r",\s*", columns.group(1).strip()), row, strict=True))


CASES_OF_MONEY = {
    "nothing known": (None, None),
    "free": (0, "0.000000"),
    "a millionth": (1, "0.000001"),
    "more than a million dollars": (1_234_567_890_123, "1234567.890123"),
    "a saving that was a loss": (-2_500_000, "-2.500000"),
    "a small loss": (-1, "-0.000001"),
}


@pytest.mark.parametrize(("uusd", "want"), CASES_OF_MONEY.values(), ids=CASES_OF_MONEY.keys())
def test_money_keeps_its_six_digits(uusd: int | None, want: str | None) -> None:
    """No float is on the way."""
    assert rows.usd(uusd) == want


def test_a_decision_names_its_step_its_input_and_its_journal() -> None:
    """A row can be found in the journal again."""
    one = journaled(decision(input_offset=41, saved_vs_premium_uusd=120_000, lifted=True))
    row = named("copy_decisions", next(iter(rows.decision_rows("j", one))))
    assert row["partition"] == row["input_partition"] == 0
    assert row["seq"] == 0
    assert row["input_offset"] == 41
    assert row["journal"] == "j"
    assert row["decided_at"] == "2026-11-21T10:00:00.000Z"
    assert row["saved_vs_premium_usd"] == "0.120000"
    assert row["lifted"] == "t"
    assert row["policy"] == "policy-1"


def test_both_ways_to_write_have_the_same_columns() -> None:
    """The insert for batches that COPY refuses takes the same rows."""
    for copy, insert in (("copy_decisions", "insert_decision"), ("copy_outcomes", "insert_outcome")):
        columns = [re.findall(r"[a-z0-9_]+", QUERIES[name].split("(")[1].split(")")[0]) for name in (copy, insert)]
        assert columns[0] == columns[1]
        assert QUERIES[insert].count("%s") == len(columns[0])


def test_an_outcome_is_joined_to_its_decision() -> None:
    """Dollars told as a float are rounded to millionths once."""
    routed = decision()
    one = journaled(work=(work(routed, cost_usd=0.0410004, accepted=False, fit="good_fit"),))
    row = named("copy_outcomes", next(iter(rows.outcome_rows("j", one))))
    assert row["decision_id"] == routed.decision_id
    assert row["cost_usd"] == "0.041000"
    assert row["accepted"] == "f"


def test_letters_that_postgres_refuses_are_replaced_and_nothing_else() -> None:
    """NUL hides in texts, and behind an escape in alternatives; an escaped backslash before `u0000` is plain text."""
    one = journaled(
        decision(
            reason="a\x00b", layer="docs", alternatives={"bad\x00": {"gate": "ok"}, "fine\\u0000": {"gate": "busy"}}
        )
    )
    row = named("copy_decisions", next(iter(rows.decision_rows("j", one))))
    assert row["reason"] == "a\N{REPLACEMENT CHARACTER}b"
    assert row["layer"] == "docs"
    assert set(json.loads(str(row["alternatives"]))) == {"bad\N{REPLACEMENT CHARACTER}", "fine\\u0000"}


def test_half_a_surrogate_pair_is_replaced() -> None:
    """No valid record holds one, but a text made in memory can."""
    assert rows.storable(("a\ud800b", 3, None)) == ("a\N{REPLACEMENT CHARACTER}b", 3, None)


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
