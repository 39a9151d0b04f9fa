"""Who has logged in with a browser: a session in this process, named by a cookie, in place of the token.

The cookie holds 32 random bytes, and this process their hash: neither gives the token away. A session ends after half a
day, at the logout, and with the process.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fastapi import Request, Response
from msgspec import Struct

from streams.web.access import Caller

COOKIE: Final = "slotwise_session"
LIFE_S: Final = 12 * 3600
SESSIONS_MAX: Final = 1_000
_BYTES: Final = 32


class Session(Struct, frozen=True):
    """One login."""

    caller: Caller
    #: What a form of this session has to send along, so that no other site can send it.
    form_key: str
    ends_s: float


class Sessions:
    """The sessions of this process; the oldest makes room."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = monotonic_s
        self._known: OrderedDict[bytes, Session] = OrderedDict()

    def begin(self, caller: Caller) -> str:
        """Begin a session, and return what its cookie holds."""
        name = secrets.token_urlsafe(_BYTES)
        self._known[_hash(name)] = Session(caller, secrets.token_urlsafe(_BYTES), self._now_s() + LIFE_S)
        while len(self._known) > SESSIONS_MAX:
            self._known.popitem(last=False)
        return name

    def of(self, request: Request) -> Session | None:
        """Return the session that a request belongs to; None: none that is known."""
        name = request.cookies.get(COOKIE)
        found = self._known.get(_hash(name)) if name else None
        return found if found is not None and found.ends_s > self._now_s() else None

    def end(self, request: Request) -> None:
        """End the session of a request."""
        self._known.pop(_hash(request.cookies.get(COOKIE, "")), None)


def set_cookie(request: Request, response: Response, name: str) -> None:
    """Put a session's cookie into an answer: not for scripts, not for requests that another site made."""
    # A proxy with TLS says so; who sends this header without one only keeps the cookie from its own connection.
    secure = request.headers.get("x-forwarded-proto") == "https"
    response.set_cookie(COOKIE, name, max_age=LIFE_S, path="/", secure=secure, httponly=True, samesite="strict")


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
