"""Which tasks have these words in their titles: the last decision about each, newest first, from the audit.

It reads views only, as `explain.py` does; the words are looked for by an index of Postgres.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from string import punctuation
from typing import Any, Final

from msgspec import Struct
from psycopg.rows import dict_row

from schemas.vocabulary import Millis
from streams.database.connection import DEFAULT_TIMEOUTS, Timeouts
from streams.database.sql import QUERIES
from streams.secret import Dsn
from streams.views.explain import asking, plain_value

#: What Postgres takes in no text: NUL, and halves of a UTF-16 pair, which a command line may hold.
_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


#: Characters of ASCII that divide words, as the function `audit_words` of the database has them.
_BETWEEN: Final = str.maketrans(dict.fromkeys(punctuation, " "))


class Found(Struct, frozen=True, kw_only=True):
    """The tasks that were found, and what was searched."""

    words: str
    #: From then on; None: everything.
    since: str | None
    #: Found in all; `tasks` are the newest of them.
    total: int
    #: Last decision about each task.
    tasks: list[dict[str, Any]]
    #: Whether there was a decision to be searched, and whether one had a title. Looked at only where nothing is found.
    searched: bool = True
    titled: bool = True


def find(
    dsn: Dsn | str,
    words: str,
    *,
    pool: str | None = None,
    mode: str | None = "live",
    since_ms: Millis | None = None,
    limit: int = 20,
    timeouts: Timeouts = DEFAULT_TIMEOUTS,
) -> Found:
    """Return tasks whose titles have words that begin with all of these, whatever their case.

    Raises:
        DatabaseError: Postgres cannot be reached, has no audit, or does not let us read it.
    """
    since = datetime.fromtimestamp(max(since_ms or 0, 0) / 1000, UTC)
    of = {"words": _UNSTORABLE.sub(" ", words), "pool": pool, "mode": mode, "since": since}
    with asking(dsn, timeouts) as connection:
        rows = connection.cursor(row_factory=dict_row).execute(QUERIES["find"], of | {"rows_max": limit}).fetchall()
        searched, titled = True, True
        if not rows:
            del of["words"]
            searched, titled = connection.execute(QUERIES["titled"], of).fetchone() or (False, False)
    total = rows[0]["hits"] if rows else 0
    return Found(
        words=words,
        since=None if since_ms is None else plain_value(since),
        total=total,
        tasks=[{name: plain_value(value) for name, value in row.items() if name != "hits"} for row in rows],
        searched=searched,
        titled=titled,
    )


def has_words(title: str | None, words: str) -> bool:
    """Whether a title has words that begin with all of these, as `find` has it."""
    of_title = (title or "").lower().translate(_BETWEEN).split()
    return all(any(one.startswith(word) for one in of_title) for word in words.lower().translate(_BETWEEN).split())
