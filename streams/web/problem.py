"""What went wrong, as RFC 9457 has it: `application/problem+json` with the sentence that a dead letter would have."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import Response

from streams.errors import MISTAKE, UNREACHABLE, SlotwiseError
from streams.secret import masked

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Exception):
    """A request that is not answered as asked; the sentence is for the person who sent it."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers, self.more = status, detail, dict(headers or {}), more

    def response(self, correlation_id: str) -> Response:
        """Return the answer."""
        return Response(
            self.body(correlation_id),
            status_code=self.status,
            headers={**self.headers, "Cache-Control": "no-store"},
            media_type=MEDIA_TYPE,
        )

    def body(self, correlation_id: str) -> bytes:
        """Return the answer's body."""
        fields = {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": masked(self.detail),
            "correlation_id": correlation_id,
            **self.more,
        }
        return msgspec.json.encode(fields)


def refused(detail: str, **more: Any) -> Problem:
    """Return the problem of a body that the router would refuse."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, **more)


def broker_silent(broker: str, error: Exception, then: str) -> Problem:
    """Return the problem of a broker that does not answer; `then` says what to do."""
    says = f"The broker at {broker} does not answer ({type(error).__name__}): {then}."
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, says, headers={"Retry-After": "1"})


def of_error(error: SlotwiseError) -> Problem:
    """Return the problem of an error that says what to do."""
    if error.exit_code == MISTAKE:
        return refused(str(error))
    if error.exit_code == UNREACHABLE:
        return Problem(HTTPStatus.SERVICE_UNAVAILABLE, str(error), headers={"Retry-After": "1"})
    return Problem(HTTPStatus.CONFLICT, str(error))
