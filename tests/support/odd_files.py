"""Files that a command may be pointed at: good ones, good ones with something wrong, and what is nothing of the kind.

A strategy gives bytes, or the name of something that is no file. Structures are damaged value by value, so that the
damage passes the parser; texts byte by byte, so that it does not.
"""

from __future__ import annotations

import copy
import datetime as dt
import functools
import json
import os
import tomllib
from pathlib import Path
from typing import Any, Final, Literal

from hypothesis import strategies as st

from schemas.events import SlotFreed, TaskPending
from schemas.examples import EXAMPLES
from streams.shipped import shipped

Kind = Literal["catalog", "policy", "prices", "lines", "up"]

_PRICES: Final = Path(__file__).parents[1] / "prices" / "litellm_slice.json"
_SENT: Final = (TaskPending, SlotFreed)
#: Rows of the price file that are damaged; all of them would only take longer.
_ROWS: Final = 12

#: What no field expects, or only just.
ODD_VALUES: Final[tuple[Any, ...]] = (
    *(0, -1, 1, 7, 2**31, 2**63 - 1, 2**63, 10**30, True, False),
    *(0.0, -0.0, 1e-7, 0.0004, 1e-300, 1e300, 5e-324, float("inf"), float("-inf"), float("nan")),
    *("", " ", "x" * 200, "a\0b", "\x1b[31m", "é", "\u202e", "opus", "claude", "quality", "2026-11-21", "16:30", "\n"),
    *([], {}, [1], [[]], [{}], {"": 1}, {"a": {"b": 1}}, ["opus", "opus"], [1, "a"], dt.date(2026, 11, 21)),
)
#: What makes parsers give up, and what is another encoding.
NASTY: Final = (
    *(b"", b"\n", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xff\xfe", b"{", b"[", b"=", b"null", b"[]", b"{}", b"\r"),
    *(b"a = " + b"[" * 3000, b"a = " + b"9" * 5000, b"a = 0x" + b"f" * 5000, b"[" + b"a." * 2000 + b"b]", b'"' * 1000),
    *(b"[" * 100_000, b'{"a":' * 3000, b"9" * 5000, b'{"a":' + b"9" * 5000 + b"}", b'{"a":1e999}', b'{"\\ud800":1}'),
    *("[[model]]\nid = 'é'".encode("latin-1"), "[[model]]".encode("utf-16"), "{}".encode("utf-32"), b"model = 1"),
    *(b"model = [1]", b"model = []", b"[model]", b"model.a = 1", b"lane = 1979-05-27T07:32:00Z", b"x" * 300_000),
)
#: Names that are no regular file.
NO_FILES: Final = (".", "none.toml", "none/none.toml", "/dev/null", "x" * 300, "é\udcff", "")


@functools.cache
def _documents(kind: Kind) -> list[Any]:
    match kind:
        case "catalog" | "policy":
            return [tomllib.loads(shipped("catalog.toml" if kind == "catalog" else "policy.toml"))]
        case "prices":
            rows = json.loads(_PRICES.read_text())
            return [{name: rows[name] for name in list(rows)[:_ROWS]}]
        case "lines":
            return [dict(example) for kind, example in EXAMPLES.items() if kind in _SENT]
        case "up":
            addresses = {"broker": "127.0.0.1:9", "database": "postgresql://127.0.0.1:9/x", "web": "http://127.0.0.1:9"}
            return [addresses | {"pids": {"up": os.getpid()}, "settings": {"group": "a", "partitions": 3}}]


def contents(kind: Kind) -> st.SearchStrategy[bytes]:
    """Give the content of a file of this kind."""
    good = st.sampled_from(_documents(kind))
    damaged = good.flatmap(_damaged).map(functools.partial(_dump, kind))
    text = st.just(_dump(kind, _documents(kind)[0]))
    return st.one_of(
        damaged,
        damaged,
        text.flatmap(_cut),
        st.builds(_encoded, text, st.sampled_from(["latin-1", "utf-16", "utf-16-be", "utf-8-sig", "utf-32", "cp037"])),
        st.sampled_from(NASTY),
        st.binary(max_size=60),
        text,
    )


def names(kind: Kind) -> st.SearchStrategy[bytes | str]:
    """Give a content, or now and then a name that is no file."""
    return st.one_of(contents(kind), contents(kind), contents(kind), st.sampled_from(NO_FILES))


@st.composite
def _damaged(draw: st.DrawFn, document: Any) -> Any:
    """A document with a few values replaced, left out, or under another key."""
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(0, 3))):
        where: Any = document
        while isinstance(where, dict | list) and where:
            key = draw(st.sampled_from(sorted(where, key=str) if isinstance(where, dict) else range(len(where))))
            inner = where[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
                _damage(draw, where, key)
                break
            where = inner
    return document


def _damage(draw: st.DrawFn, where: Any, key: Any) -> None:
    how = draw(st.sampled_from(["value", "value", "value", "number", "key", "gone", "twice"]))
    if how == "number" and isinstance(where[key], int | float):
        where[key] = type(where[key])(where[key] * draw(st.sampled_from([0, -1, 1e-6, 0.5, 2, 1000, 1e9])))
    elif how == "key" and isinstance(where, dict):
        where[draw(st.sampled_from([f"{key}s", "", "a\0", "é", "id", "model", "default"]))] = where.pop(key)
    elif how == "gone":
        del where[key]
    elif how == "twice" and isinstance(where, list):
        where.append(copy.deepcopy(where[key]))
    else:
        where[key] = copy.deepcopy(draw(st.sampled_from(ODD_VALUES)))


@st.composite
def _cut(draw: st.DrawFn, text: bytes) -> bytes:
    """A text with some bytes gone and others put in."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(text)))
        gone = draw(st.sampled_from([0, 0, 1, 3, 100, len(text)]))
        put = draw(st.binary(max_size=4) | st.sampled_from([b'"', b"[", b"]]", b"\n\n", b"\0", b"\xe9", b"= inf"]))
        text = text[:at] + put + text[at + gone :]
    return text


def _encoded(text: bytes, encoding: str) -> bytes:
    return text.decode().encode(encoding, errors="replace")


def _dump(kind: Kind, document: Any) -> bytes:
    if kind in ("catalog", "policy"):
        lines = [f"{_key(key)} = {_toml(value)}" for key, value in document.items()]
        return "\n".join(lines).encode(errors="replace")
    return json.dumps(document, default=str).encode(errors="replace")


def _key(key: str) -> str:
    return json.dumps(key).replace("\x7f", "\\u007f")


def _toml(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_toml, value)) + "]"
        case str():
            return _key(value)
        case bool():
            return str(value).lower()
        case _:
            return str(value)
