"""The one gate before every route: host, size and form of a request; headers, id and errors of every answer.

An answer never holds a stack trace: an exception is logged under the correlation id that the answer names, and
neither bodies nor headers of a request are logged.
"""

from __future__ import annotations

import asyncio
import logging
import re
import uuid
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from schemas.codec import VALUE_BYTES_MAX
from streams.web.problem import MEDIA_TYPE, Problem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)

BODY_BYTES_MAX: Final = VALUE_BYTES_MAX
#: Longest wait for a whole body.
BODY_S_MAX: Final = 10.0
JSON: Final = "application/json"
#: What the pages' forms are sent as.
FORM: Final = "application/x-www-form-urlencoded"
#: The pages are below it, except the first.
PREFIX: Final = "/ui"
CORRELATION: Final = "x-correlation-id"
_ID: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_PORT: Final = re.compile(r":[0-9]{1,5}\Z")
#: Of every answer. Nothing is embedded, framed, cached or guessed at.
_HEADERS: Final = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not `no-referrer`: a browser would send our own forms with `Origin: null`.
    "referrer-policy": "same-origin",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
    ),
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
HEADERS: Final = tuple((name.encode(), value.encode()) for name, value in _HEADERS.items())

MISTAKE: Final = Problem(
    HTTPStatus.INTERNAL_SERVER_ERROR, "This is a mistake of slotwise; its log has the details under the correlation id."
)


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        self._app = app
        self._hosts = frozenset(host.lower() for host in hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            # There is no WebSocket here: the server closes the connection.
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        given = headers.get(CORRELATION, "")
        correlation_id = given if _ID.fullmatch(given) else str(uuid.uuid4())
        scope.setdefault("state", {})["correlation_id"] = correlation_id
        started = answered = False

        async def guarded_send(message: Message) -> None:
            nonlocal started, answered
            answered = message["type"] == "http.response.body" and not message.get("more_body", False)
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *HEADERS, (CORRELATION.encode(), correlation_id.encode())]
            await send(message)

        try:
            self._check(scope, headers)
            await self._app(scope, _limited(receive), guarded_send)
        except Problem as problem:
            if started:
                raise
            await _answer(problem, correlation_id, guarded_send)
        except Exception as error:
            _log.exception("request %s failed: %s", correlation_id, type(error).__name__)
            if answered:  # by the application, before it passed the exception on
                return
            if started:  # the server closes the connection, so that the client sees that the answer is not whole
                raise
            await _answer(MISTAKE, correlation_id, guarded_send)

    def _check(self, scope: Scope, headers: dict[str, str]) -> None:
        host = _PORT.sub("", headers.get("host", "")).lower()
        if host not in self._hosts:
            raise Problem(
                HTTPStatus.MISDIRECTED_REQUEST,
                "This server is not called so: name the host with SLOTWISE_HTTP_NAMES if it should be.",
            )
        length = headers.get("content-length", "")
        has_body = length not in ("", "0") or "transfer-encoding" in headers
        if length.isdecimal() and int(length) > BODY_BYTES_MAX:
            raise _too_large()
        if scope["method"] not in ("GET", "HEAD", "DELETE", "OPTIONS") or has_body:
            kind, _, _ = headers.get("content-type", "").partition(";")
            wanted = FORM if is_page(scope["path"]) else JSON
            if kind.strip().lower() != wanted:
                says = f"Send {wanted}, and say so in the header Content-Type."
                raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, says)
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise Problem(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "Send the body as it is: no encoding is read.")


def is_page(path: str) -> bool:
    """Whether people are answered there, not programs."""
    return path in ("/", PREFIX) or path.startswith(f"{PREFIX}/")


def _limited(receive: Receive) -> Receive:
    count, whole = 0, False
    end_s = asyncio.get_running_loop().time() + BODY_S_MAX

    async def limited() -> Message:
        nonlocal count, whole
        if whole:  # what comes now is that the client has gone
            return await receive()
        try:
            async with asyncio.timeout_at(end_s):
                message = await receive()
        except TimeoutError:
            raise Problem(HTTPStatus.REQUEST_TIMEOUT, f"The body did not come within {BODY_S_MAX:g} s.") from None
        count += len(message.get("body", b""))
        whole = not message.get("more_body", False)
        if count > BODY_BYTES_MAX:
            raise _too_large()
        return message

    return limited


def _too_large() -> Problem:
    return Problem(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"The body is too large; at most {BODY_BYTES_MAX} bytes are read."
    )


async def _answer(problem: Problem, correlation_id: str, send: Send) -> None:
    body = problem.body(correlation_id)
    fields = {**problem.headers, "content-type": MEDIA_TYPE, "content-length": str(len(body))}
    headers = [(name.lower().encode(), value.encode()) for name, value in fields.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
