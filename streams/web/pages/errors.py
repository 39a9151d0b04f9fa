"""Errors of pages, as pages: what happened, what to try, and the id under which the log has more."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from fastapi import Request, Response

from streams.secret import masked
from streams.web.pages.page import page_of
from streams.web.problem import Problem

#: What to try, where the sentence of the error does not say it.
_TRY: Final = {
    HTTPStatus.NOT_FOUND: "Begin at the first page, or search for a task or a slot by its id.",
    HTTPStatus.UNPROCESSABLE_ENTITY: "Correct the address, or begin at the first page.",
    HTTPStatus.SERVICE_UNAVAILABLE: "It may pass by itself: open the page again in a moment.",
    HTTPStatus.INTERNAL_SERVER_ERROR: "Open the page again; if it stays so, report it with the correlation id.",
}


def problem_page(request: Request, problem: Problem) -> Response:
    """Return the page of a problem."""
    title = HTTPStatus(problem.status).phrase
    answer = page_of(request).show(
        "error.html",
        title=title,
        live=False,
        status=problem.status,
        says=masked(problem.detail),
        hint=_TRY.get(HTTPStatus(problem.status), ""),
    )
    answer.headers.update(problem.headers)
    return answer


async def login_form(request: Request, _: Exception) -> Response:
    """Return the form to log in, in place of a page."""
    to = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    page = page_of(request)
    answer = page.show(
        "login.html",
        title="Log in",
        live=False,
        to=to if request.method == "GET" else "/",
        says="",
        status=HTTPStatus.UNAUTHORIZED,
    )
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer
