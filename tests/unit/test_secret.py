"""A database's password is shown nowhere: not printed, logged, raised, encoded, pickled or handed on by accident."""

from __future__ import annotations

import copy
import io
import json
import logging
import pickle
import traceback
from urllib.parse import quote

import msgspec
import psycopg
import pytest

from streams import logs
from streams.commands.codes import sentence_of
from streams.commands.console import print_json
from streams.database.connection import DEFAULT_TIMEOUTS as TIMEOUTS
from streams.database.connection import DatabaseError, NoDsnError, connect, connect_async, parameters, where
from streams.local.own_parts import environment
from streams.secret import Dsn, Secret, masked
from streams.settings import Settings, load

PASSWORD = "Hunter2/@:x"
QUOTED = quote(PASSWORD, safe="")
#: A part that stands in the password however it is written.
CANARY = "unter2"

#: A DSN, and how it is shown.
DSNS = {
    "a URL": (f"postgresql://ann:{QUOTED}@db:5432/audit", "postgresql://ann:***@db:5432/audit"),
    "its other scheme, several hosts": (
        f"postgres://ann:{QUOTED}@a:1,b:2/audit?sslmode=require",
        "postgres://ann:***@a:1,b:2/audit?sslmode=require",
    ),
    "every letter percent-encoded": (
        "postgresql://ann:" + "".join(f"%{byte:02x}" for byte in PASSWORD.encode()) + "@db/audit",
        "postgresql://ann:***@db/audit",
    ),
    "a parameter": (f"postgresql://db/audit?password={QUOTED}&user=ann", "postgresql://db/audit?password=***&user=ann"),
    "a parameter with an encoded name": (
        f"postgresql://db/audit?pass%77ord={QUOTED}",
        "postgresql://db/audit?password=***",
    ),
    "the key's password": (f"postgresql://db/a?sslpassword={QUOTED}", "postgresql://db/a?sslpassword=***"),
    "key and value": (f"host=db password={PASSWORD} dbname=audit", "host=db password=*** dbname=audit"),
    "key and value, in quotes": (
        f"host = db password = '{PASSWORD} it\\'s' user=ann",
        "host = db password=*** user=ann",
    ),
    "quotes that do not end": (f"host=db password='{PASSWORD}", "host=db password=***"),
    "a password that is not encoded": (f"postgresql://ann:{PASSWORD}@db/audit", "postgresql://ann:***@db/audit"),
    "no host": (f"postgresql://ann:{PASSWORD}", "postgresql://ann:***@***"),
    "no equals sign": (f"host=db password {PASSWORD}", "***"),
    "the password alone": (PASSWORD, "***"),
    "another database's": (f"mysql://ann:{QUOTED}@db/audit", "***"),
    "none in it": ("postgresql://ann@[::1]:5432/audit", "postgresql://ann@[::1]:5432/audit"),
}


@pytest.mark.parametrize(("text", "want"), DSNS.values(), ids=DSNS.keys())
def test_a_dsn_is_shown_without_what_may_be_a_password(text: str, want: str) -> None:
    """In whatever form it is written, and also where it is written wrongly."""
    assert str(Dsn(text)) == want
    assert CANARY not in str(Dsn(text))


@pytest.mark.parametrize("text", [text for text, _ in DSNS.values()], ids=DSNS.keys())
def test_only_an_explicit_call_gives_it(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every other way to a text gives the masked one, or nothing."""
    dsn, settings = Dsn(text), load({"SLOTWISE_DATABASE": text})
    assert settings.database == dsn
    assert dsn.reveal() == text
    print_json({"database": dsn, "settings": settings})
    shown = [str(dsn), repr(dsn), f"{dsn} {dsn!r} {dsn!s:>40}", "%s" % dsn, repr([dsn]), repr(settings)]  # noqa: UP031
    shown += [capsys.readouterr().out, str(copy.deepcopy(dsn)), str(copy.copy(dsn))]
    assert CANARY not in "".join(shown)
    for encode in (pickle.dumps, msgspec.json.encode, msgspec.to_builtins, json.dumps):
        with pytest.raises((TypeError, NotImplementedError)):
            encode(dsn)
    assert environment(settings)["SLOTWISE_DATABASE"] == text


def test_a_secret_of_another_kind_shows_nothing() -> None:
    """And is equal to the same secret only."""
    assert (str(Secret(PASSWORD)), repr(Secret(PASSWORD))) == ("***", "'***'")
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != Dsn("a")
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


@pytest.mark.parametrize("text", [text for text, _ in DSNS.values()], ids=DSNS.keys())
async def test_no_error_of_a_connection_has_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither ours, nor the driver's that it is made of, nor its traceback; `PGPASSWORD` likewise."""
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    dsn = Dsn(text if "db" not in text else text.replace("db", "127.0.0.1").replace(":5432", ":9"))
    monkeypatch.setenv("PGPORT", "9")
    monkeypatch.setenv("PGHOST", "127.0.0.1")
    said = []
    try:
        connect(dsn)
    except DatabaseError as error:
        said += [str(error), sentence_of(error), traceback.format_exc()]
    try:
        await connect_async(dsn)
    except (DatabaseError, psycopg.Error) as error:
        said += [str(error), sentence_of(error), traceback.format_exc()]
    assert len(said) == 6
    assert CANARY not in "".join(said)


def test_a_dsn_that_cannot_be_read_is_refused_without_repeating_it() -> None:
    """The sentence says how to write one, and how to write a password with odd characters."""
    for text in (f"postgresql://ann:{PASSWORD}@db/audit", f"host=db password {PASSWORD}", PASSWORD, "a=\ud800"):
        with pytest.raises(NoDsnError, match="%2F %3A %40"):
            parameters(Dsn(text), TIMEOUTS, "test")
    known = parameters(Dsn(f"postgresql://ann:{QUOTED}@db:1,[::1]:2/audit"), TIMEOUTS, "test")
    assert known["password"] == PASSWORD
    assert where(known) == "Postgres at db,::1:1,2, database audit,"


TYPED = {
    f"Got unexpected extra argument (postgresql://ann:{PASSWORD}@db/x)": "Got unexpected extra argument (postgresql://ann:***@db/x)",
    f"postgresql://db/x?password={QUOTED} cannot be read.": "postgresql://db/x?password=*** cannot be read.",
    f"No such option: PGPASSWORD={QUOTED}": "No such option: PGPASSWORD=***",
    "password authentication failed for user": "password authentication failed for user",
}


@pytest.mark.parametrize(("text", "want"), TYPED.items())
def test_what_was_typed_in_a_wrong_place_is_masked_in_the_answer(text: str, want: str) -> None:
    """An error may repeat an argument; the password in it stays out."""
    assert masked(text) == want
    assert sentence_of(ValueError(text)) == want


def fail(text: str) -> None:
    """Raise an error that repeats what it was given."""
    raise ValueError(f"cannot use {text}")


@pytest.mark.parametrize("as_json", [False, True])
def test_no_log_line_has_it(monkeypatch: pytest.MonkeyPatch, as_json: bool) -> None:
    """Neither as a value, nor in a message, nor in a traceback."""
    text = f"postgresql://ann:{PASSWORD}@db/audit"
    settings = load({"SLOTWISE_DATABASE": text}, {"log_json": as_json})
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        logs.configure(settings, silent=())
        log = logging.getLogger("test")
        log.warning("started with %s and %r", settings, settings.database)
        log.warning("connecting to %s", text)
        try:
            fail(text)
        except ValueError:
            log.exception("it failed")
    finally:
        root.handlers[:], root.level = before
    assert "it failed" in stream.getvalue()
    assert CANARY not in stream.getvalue()


def test_the_default_is_shown_whole() -> None:
    """There is no password in it."""
    assert str(Settings().database) == "postgresql://127.0.0.1:5432/slotwise"
