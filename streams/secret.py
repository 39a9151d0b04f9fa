"""Secrets are a type: a database's DSN is masked wherever it is printed, logged or raised; only `reveal` gives it.

`masked` is the net below: text that may repeat what a person wrote, such as an error, loses the passwords in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NoReturn
from urllib.parse import unquote

MASK: Final = "***"

#: Parameters of a DSN that are shown; of all others only the name.
_SHOWN: Final = frozenset(
    {
        *("application_name", "channel_binding", "client_encoding", "connect_timeout", "dbname", "host", "hostaddr"),
        *("keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "options", "passfile", "port"),
        *("service", "sslcert", "sslkey", "sslmode", "sslrootcert", "target_session_attrs", "tcp_user_timeout", "user"),
    }
)
_SCHEMES: Final = ("postgresql", "postgres")
_PLAIN: Final = re.compile(r"[^\s:/?#@'\"\\]*")
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%\w]*\]|[\w.%-]*)(?::(\d*))?")
#: `key = value` of a DSN; the value may be in quotes, and the last one may lack its end.
_PAIR: Final = re.compile(r"\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*(?:'|\Z)|(?:[^\s'\\]|\\.)*)(?=\s|\Z)", re.DOTALL)

_URL_PASSWORD: Final = re.compile(r"(\w:/{1,2}[^\s:/?#@]*):(?![*]{3}@)[^\s]*@")
_NAMED_PASSWORD: Final = re.compile(
    r"((?<![a-z])(?:ssl|pg)?pass(?:word|wd)\s*(?:=|:|%3d)\s*)('(?:[^'\\]|\\.)*(?:'|\Z)|[^\s&'\"]+)", re.IGNORECASE
)


class Secret:
    """A text that is not for people to see."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text, for what needs it; nothing else may call this."""
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return repr(str(self))

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _memo: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("A secret is not pickled: it would leave the process as plain text.")


class Dsn(Secret):
    """The address of a database, with or without a password; shown without what may be one."""

    __slots__ = ()

    def __str__(self) -> str:
        scheme, slashes, rest = self._text.partition("://")
        if not slashes:
            return _masked_pairs(self._text)
        return f"{scheme}://{_masked_url(rest)}" if scheme in _SCHEMES else MASK


def masked(text: str) -> str:
    """Return a text without the passwords of addresses and of `password=...`, wherever they stand in it."""
    return _NAMED_PASSWORD.sub(rf"\1{MASK}", _URL_PASSWORD.sub(rf"\1:{MASK}@", text))


def _masked_url(rest: str) -> str:
    login, at, place = rest.rpartition("@")
    user, colon, _ = login.partition(":")
    shown = f"{user if _PLAIN.fullmatch(user) else MASK}{f':{MASK}' if colon else ''}@" if at else ""
    place, question, query = place.partition("?")
    hosts, slash, name = place.partition("/")
    shown += ",".join(map(_masked_host, hosts.split(",")))
    if slash:
        shown += f"/{name if _PLAIN.fullmatch(name) else MASK}"
    if question:
        shown += "?" + "&".join(_masked_parameters(query))
    return shown


def _masked_host(text: str) -> str:
    return text if _HOST.fullmatch(text) else MASK


def _masked_parameters(query: str) -> Iterator[str]:
    for pair in query.split("&"):
        key, equals, value = pair.partition("=")
        name = unquote(key)
        if name in _SHOWN and equals:
            yield f"{name}={value}"
        else:
            yield f"{name if _PLAIN.fullmatch(name) else MASK}={MASK}" if equals else MASK


def _masked_pairs(text: str) -> str:
    shown, end = [], 0
    for found in _PAIR.finditer(text):
        if found.start() != end:
            return MASK
        shown.append(found[0].strip() if found[1] in _SHOWN else f"{found[1]}={MASK}")
        end = found.end()
    return " ".join(shown) if not text[end:].strip() else MASK
