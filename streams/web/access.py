"""Who may do what: tokens, as hashes in a file; roles; and the check that every route names its roles.

A token is 32 random bytes as text, so a plain SHA-256 of it cannot be guessed. Without a file of tokens only this
machine is served, as everything but an operator, and the routes of operators do not exist.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from http import HTTPStatus
from ipaddress import ip_address
from math import ceil
from typing import Any, Final, Literal, get_args

from fastapi import Depends, Request
from msgspec import Struct

from streams.errors import MISTAKE, SlotwiseError
from streams.settings import Settings
from streams.text_file import read_text_file
from streams.web.problem import Problem
from streams.web.rate import Rate

Role = Literal["producer", "dispatcher", "reader", "operator"]
ROLES: Final[tuple[Role, ...]] = get_args(Role)
#: Under this name the roles of a route stand in the OpenAPI description.
ROLES_KEY: Final = "x-roles"
#: Of a route that needs no token.
ANYONE: Final = "anyone"
_LINE: Final = re.compile(r"(?P<roles>[a-z,]+)\s+(?P<name>[A-Za-z0-9._:-]{1,64})\s+sha256:(?P<hash>[0-9a-f]{64})")
_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_TOKEN_BYTES: Final = 32


class TokenFileError(SlotwiseError):
    """The file of tokens has a mistake; the message names the line."""

    exit_code = MISTAKE


class Caller(Struct, frozen=True):
    """Who sent a request."""

    name: str
    roles: frozenset[Role]
    #: Tells apart tokens of one name.
    sha256: bytes = b""


#: Where no tokens are configured.
_LOCAL: Final = Caller("local", frozenset(("producer", "dispatcher", "reader")))


class Tokens:
    """The tokens of an installation, as hashes."""

    def __init__(self, tokens: tuple[Caller, ...]) -> None:
        self._tokens = tokens

    @property
    def configured(self) -> bool:
        """Whether there are any; else only this machine is served."""
        return bool(self._tokens)

    @classmethod
    def of(cls, settings: Settings) -> Tokens:
        """Read the file of the settings.

        Raises:
            TextFileError, TokenFileError: it cannot be read, or a line is none that `slotwise token` prints.
        """
        return cls.read(read_text_file(settings.http_tokens), settings.http_tokens) if settings.http_tokens else cls(())

    @classmethod
    def read(cls, text: str, file: str) -> Tokens:
        """Read the lines of a file of tokens; empty lines and those that begin with # are passed over.

        Raises:
            TokenFileError: a line is none that `slotwise token` prints, or there is none.
        """
        found = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            parts = _LINE.fullmatch(line.strip())
            if parts is None or not set(parts["roles"].split(",")) <= set(ROLES):
                raise TokenFileError(
                    f"{file}, line {number}: no token; a line has roles (of {', '.join(ROLES)}), a name and "
                    "sha256:HASH, as `slotwise token` prints it."
                )
            roles: frozenset[Role] = frozenset(role for role in ROLES if role in parts["roles"].split(","))
            found.append(Caller(parts["name"], roles, bytes.fromhex(parts["hash"])))
        if not found:
            raise TokenFileError(f"{file} holds no token: add a line of `slotwise token`, or leave the setting empty.")
        return cls(tuple(found))

    def caller(self, request: Request) -> Caller | None:
        """Return who sent the request; None: no known token."""
        if not self._tokens:
            return _LOCAL if _is_local(request) else None
        scheme, _, text = request.headers.get("authorization", "").partition(" ")
        found = self.of_token(text.strip())
        return found if scheme.lower() == "bearer" else None

    def of_token(self, token: str) -> Caller | None:
        """Return whose token it is; None: it is not known.

        Every token is compared, each in constant time: how long it takes says nothing about them.
        """
        given = hashlib.sha256(token.encode()).digest()
        found = [one for one in self._tokens if hmac.compare_digest(one.sha256, given)]
        return found[0] if found else None


class RoleError(SlotwiseError):
    """There is no such role, or a name cannot be one; the message says what can."""

    exit_code = MISTAKE


def roles_of(words: list[str], name: str) -> tuple[Role, ...]:
    """Return the roles of a new token.

    Raises:
        RoleError: a word is no role, or the name has other characters than an id.
    """
    unknown = [word for word in words if word not in ROLES]
    if unknown:
        raise RoleError(f"{unknown[0]!r} is no role: there are {', '.join(ROLES)}.")
    if not _NAME.fullmatch(name):
        raise RoleError(f"{name!r} is no name of a token: use 1 to 64 of A-Z, a-z, 0-9 and ._:-")
    return tuple(role for role in ROLES if role in words)


def new_token(roles: tuple[Role, ...], name: str) -> tuple[str, str]:
    """Return a new token and its line for the file of tokens."""
    token = secrets.token_urlsafe(_TOKEN_BYTES)
    return token, f"{','.join(roles)} {name} sha256:{hashlib.sha256(token.encode()).hexdigest()}"


def open_to(*roles: Role) -> dict[str, Any]:
    """Return what a route says of itself when it is open to these roles only; none: to everyone."""
    named: tuple[str, ...] = roles or (ANYONE,)
    extra = {"openapi_extra": {ROLES_KEY: list(named), "security": [{"token": []}] if roles else []}}
    return {"dependencies": [Depends(_Check(frozenset(roles)))], **extra} if roles else extra


class _Check:
    """Refuses callers without one of the roles, on the route that was matched."""

    def __init__(self, roles: frozenset[Role]) -> None:
        self._roles = roles

    async def __call__(self, request: Request) -> None:
        tokens: Tokens = request.app.state.web.tokens
        caller = tokens.caller(request)
        if caller is None:
            if not tokens.configured:
                raise Problem(HTTPStatus.FORBIDDEN, "No tokens are configured, so only this machine is served.")
            raise Problem(
                HTTPStatus.UNAUTHORIZED,
                "Send a token that this installation knows, as `Authorization: Bearer TOKEN`.",
                headers={"WWW-Authenticate": "Bearer"},
            )
        if not caller.roles & self._roles:
            raise Problem(HTTPStatus.FORBIDDEN, f"This needs a token with the role {' or '.join(sorted(self._roles))}.")
        rate: Rate = request.app.state.rate
        key = caller.sha256 if tokens.configured else request.client and request.client.host
        if wait_s := rate.take(key):
            raise Problem(
                HTTPStatus.TOO_MANY_REQUESTS,
                "These are more requests than one caller may send; send lists of tasks, or wait as Retry-After says.",
                headers={"Retry-After": str(ceil(wait_s))},
            )
        request.state.caller = caller


def _is_local(request: Request) -> bool:
    try:
        return request.client is not None and ip_address(request.client.host).is_loopback
    except ValueError:
        return False
