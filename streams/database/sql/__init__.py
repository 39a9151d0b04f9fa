"""SQL under names: `QUERIES["explain"]`, each with its purpose beside it in `queries.sql`."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"^-- ([a-z_]+) --$", re.MULTILINE)


def parse(text: str) -> dict[str, str]:
    """Split a file of queries at its `-- name --` lines.

    Raises:
        ValueError: a name is there twice, or there is text before the first name.
    """
    before, *rest = _NAME.split(text)
    if before.strip():
        raise ValueError(f"SQL without a name: {before.strip()[:80]!r}; begin each query with a line '-- name --'")
    queries: dict[str, str] = {}
    for name, query in zip(rest[::2], rest[1::2], strict=True):
        if name in queries:
            raise ValueError(f"two queries are called {name!r}; give one of them another name")
        queries[name] = query.strip()
    return queries


@cache
def read(name: str) -> str:
    """Return the text of a file of this folder."""
    return files(__name__).joinpath(name).read_text(encoding="utf-8")


QUERIES: Final[Mapping[str, str]] = MappingProxyType(parse(read("queries.sql")))
