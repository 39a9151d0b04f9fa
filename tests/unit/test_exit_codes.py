"""Each error that speaks to the person at the command line carries its exit code; what carries none is a bug."""

from __future__ import annotations

import kafka.errors
import psycopg
import pytest

from streams.commands.codes import code_of
from streams.core.policy.document import RulebookError
from streams.database.connection import DatabaseError, DatabaseUnreachable, failure
from streams.local.run import NotInTimeError
from streams.local.up import UpError
from streams.partition import ports
from streams.settings import SettingsError
from streams.topics import BrokerUnreachable, TopicsError

FAILED, MISTAKE, UNREACHABLE = 1, 2, 3

CODES: list[tuple[BaseException, int | None]] = [
    (SettingsError("SLOTWISE_BROKRE is no setting."), MISTAKE),
    (RulebookError(["critical is no known key."]), MISTAKE),
    (UpError("Another one runs."), MISTAKE),
    (NotInTimeError("Not idle."), FAILED),
    (ports.JournalError("A step is missing."), FAILED),
    (DatabaseError("The schema is newer."), FAILED),
    (DatabaseUnreachable("Nothing listens."), UNREACHABLE),
    (TopicsError("No such topic."), MISTAKE),
    (BrokerUnreachable("Nothing listens."), UNREACHABLE),
    (kafka.errors.KafkaTimeoutError("late"), UNREACHABLE),
    (psycopg.OperationalError("gone"), UNREACHABLE),
    (FileNotFoundError(2, "No such file", "tasks.jsonl"), MISTAKE),
    (KeyError("a bug"), None),
]


@pytest.mark.parametrize(("error", "want"), CODES, ids=lambda value: type(value).__name__)
def test_an_error_carries_its_exit_code(error: BaseException, want: int | None) -> None:
    """0 done, 1 something is not as it should be, 2 a mistake, 3 something needed does not answer."""
    assert code_of(error) == want


def test_a_lost_connection_differs_from_a_statement_that_failed() -> None:
    """Scripts retry the first and not the second."""
    assert failure("It stopped", psycopg.OperationalError("server closed")).exit_code == UNREACHABLE
    assert failure("It stopped", psycopg.ProgrammingError("no such column")).exit_code == FAILED
