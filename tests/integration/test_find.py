"""Tasks are found in the audit by the words of their titles, by an index."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import psycopg
import pytest

from streams.database.connection import connect_async
from streams.database.migrations import migrate
from streams.sinks.postgres import PostgresStore
from streams.views.find import find
from tests.integration.test_sink_controls import taken
from tests.support.builders import START_MS, decision, step

if TYPE_CHECKING:
    from schemas.decision import Decision

TITLES = {
    "t-1": "Fix typo in README.md",
    "t-2": "Typos of src/auth/login.py, all of them",
    "t-3": "Rewrite the scheduler",
    "t-4": "Prüfung: Übersetzung des parse_config-Teils",
    "t-5": "\u2028\x1b[31m'); DROP TABLE model_routing_decisions; -- & | ! :*",
    "t-6": None,
}


def decisions() -> list[Decision]:
    """One about each task, a second apart."""
    return [
        decision(task_id=task_id, title=title, decided_at_ms=START_MS + 1_000 * place)
        for place, (task_id, title) in enumerate(TITLES.items())
    ]


def write(database: str, *made: Decision, titles: bool = True, seq: int = 0) -> None:
    """Write decisions into the audit, each in a step of its own, as the sink does."""

    async def run() -> None:
        store = PostgresStore(
            lambda: connect_async(database), journal="j", name="test", transaction_s_max=30.0, titles=titles
        )
        steps = taken([step(number, one) for number, one in enumerate(made)])
        try:
            await store.write(steps[seq:])
        finally:
            await store.close()

    asyncio.run(run())


@pytest.fixture
def audit(database: str) -> str:
    """Give an audit with one decision about each title."""
    migrate(database)
    write(database, *decisions())
    return database


def ids(database: str, words: str) -> list[str]:
    """Ids of the tasks found, newest first."""
    return [one["task_id"] for one in find(database, words).tasks]


@pytest.mark.rule("record.title")
def test_tasks_are_found_by_words_of_their_titles(audit: str) -> None:
    """All words, from their beginnings, in any case, between any punctuation; the newest first."""
    assert ids(audit, "typo") == ["t-2", "t-1"]
    assert ids(audit, "TYPO readme") == ["t-1"]
    assert ids(audit, "login.py") == ids(audit, "py login") == ids(audit, "auth/login") == ["t-2"]
    assert ids(audit, "prüf parse config") == ["t-4"]
    assert ids(audit, "scheduler typo") == []
    assert ids(audit, "ypo") == []
    assert ids(audit, "drop & table | !") == ["t-5"]
    for hostile in ("') OR 1=1 --", ":* & !", "\\", "a\0b", "\ud800", "%(since)s"):
        assert ids(audit, hostile) == []


@pytest.mark.rule("record.title")
def test_a_task_is_found_once_with_its_last_decision(audit: str) -> None:
    """Why it waits or runs, not that it ended; of one pool or of all, and only what is newer."""
    later = [
        decision(task_id="t-1", title=TITLES["t-1"], outcome="waiting", decided_at_ms=START_MS + 60_000, of=1),
        decision(task_id="t-1", title=TITLES["t-1"], decided_at_ms=START_MS + 61_000, attempt=2, of=2),
        decision(
            task_id="t-1", title=TITLES["t-1"], outcome="dead_lettered", reason_code="dead_lettered",
            decided_at_ms=START_MS + 62_000, of=3,
        ),
        decision(task_id="t-1", title="Another typo", pool="docs", decided_at_ms=START_MS + 63_000),
    ]  # fmt: skip
    write(audit, *decisions(), *later, seq=len(TITLES))
    found = find(audit, "typo")
    assert [(one["pool"], one["task_id"]) for one in found.tasks] == [("docs", "t-1"), ("main", "t-1"), ("main", "t-2")]
    assert (found.tasks[1]["attempt"], found.tasks[1]["outcome"]) == (2, "routed")
    assert found.tasks[1]["decided_at"] == "2026-11-21T10:01:01.000Z"
    assert [one["pool"] for one in find(audit, "typo", pool="docs").tasks] == ["docs"]
    newest = find(audit, "typo", limit=1)
    assert (newest.total, len(newest.tasks)) == (3, 1)
    assert find(audit, "typo", since_ms=START_MS + 63_000).total == 1  # type: ignore[arg-type]
    assert find(audit, "typo", mode="shadow").total == 0


@pytest.mark.rule("record.title")
def test_an_audit_without_titles_says_that_it_has_none(database: str) -> None:
    """Where the sink leaves them out, and where there is nothing yet."""
    migrate(database)
    nothing = find(database, "typo")
    assert (nothing.searched, nothing.titled) == (False, False)
    write(database, *decisions(), titles=False)
    found = find(database, "typo")
    assert (found.total, found.searched, found.titled) == (0, True, False)
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(title) FROM model_routing_decisions").fetchone() == (0,)


def test_words_are_looked_for_by_an_index(audit: str) -> None:
    """Also through the view, with the reader's rights."""
    with psycopg.connect(audit, autocommit=True) as connection:
        connection.execute("SET ROLE slotwise_read")
        connection.execute("SET enable_seqscan = off")
        plan = connection.execute(
            "EXPLAIN SELECT * FROM v_model_routing_decisions WHERE title IS NOT NULL "
            "AND audit_words(title) @@ (SELECT 'typo:*'::tsquery)"
        ).fetchall()
    assert any("words_idx" in line or "audit_words" in line for (line,) in plan if "Index" in line), plan
