"""Log in with a token, and out again."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from streams.web.guard import PREFIX, is_page
from streams.web.pages.page import FormOf, PageOf, seen_by
from streams.web.sessions import COOKIE, set_cookie

router = APIRouter(prefix=PREFIX)


@router.get("/login", **seen_by())
async def form(page: PageOf, to: str = "/") -> Response:
    """The form for a token."""
    return page.show("login.html", title="Log in", live=False, to=own(to), says="")


@router.post("/login", **seen_by())
async def login(request: Request, page: PageOf, fields: FormOf) -> Response:
    """Begin a session with a token that is known."""
    to, tokens = own(fields.get("to", "/")), page.web.tokens
    caller = tokens.of_token(fields.get("token", "").strip())
    if caller is None:
        says = "This installation knows no such token." if tokens.configured else "No tokens are configured here."
        return page.show("login.html", title="Log in", live=False, to=to, says=says, status=HTTPStatus.FORBIDDEN)
    page.web.sessions.end(request)
    answer = RedirectResponse(to, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})
    set_cookie(request, answer, page.web.sessions.begin(caller))
    return answer


@router.post("/logout", **seen_by())
async def logout(request: Request, page: PageOf, _: FormOf) -> Response:
    """End the session."""
    page.web.sessions.end(request)
    answer = RedirectResponse(f"{PREFIX}/login", HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})
    answer.delete_cookie(COOKIE, path="/")
    return answer


def own(to: str) -> str:
    """Return an address of one of our pages, whatever was asked for."""
    path = to.partition("?")[0]
    return to if is_page(path) and not to.startswith("//") and "\\" not in to and to.isprintable() else "/"
