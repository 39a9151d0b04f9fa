"""Makes the application: its routes, its errors, and the guard around all of it.

Every route says who may use it, and a route that does not is a mistake that the start finds. Routes of operators are
there only where tokens are.
"""

from __future__ import annotations

import time
from functools import cache
from importlib.metadata import version
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from streams.errors import SlotwiseError
from streams.host import HOST
from streams.web.access import ROLES_KEY
from streams.web.description import describe
from streams.web.guard import MISTAKE, Guard, is_page
from streams.web.pages import OPERATORS, PAGES
from streams.web.pages.errors import login_form, problem_page
from streams.web.pages.page import LoginNeeded
from streams.web.problem import Problem, of_error, refused
from streams.web.rate import Rate
from streams.web.routes import ROUTERS, controls, retry
from streams.web.state import Web

_LOCAL_NAMES: Final = (HOST, "localhost", "[::1]")


def application(web: Web) -> FastAPI:
    """Return the routes without the guard."""
    app = FastAPI(
        title="slotwise",
        version=version("slotwise"),
        description="Tasks to slots: submit, follow, cancel, ask; slots without Kafka; orders of operators.",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.web = web
    per_s = web.settings.http_token_rate if web.tokens.configured else web.settings.http_address_rate
    app.state.rate = Rate(per_s, time.monotonic)
    orders = (controls.router, retry.router, *OPERATORS) if web.tokens.configured else ()
    app.state.routers = (*ROUTERS, *PAGES, *orders)
    for router in app.state.routers:
        app.include_router(router)
    app.add_exception_handler(LoginNeeded, login_form)
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(SlotwiseError, _problem)
    app.add_exception_handler(RequestValidationError, _problem)
    app.add_exception_handler(HTTPException, _problem)
    app.add_exception_handler(Exception, _problem)
    # Made once: it needs no token, and takes as long as hundreds of requests.
    app.openapi = cache(lambda: describe(app))  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def guarded(web: Web) -> Guard:
    """Return the whole application.

    Raises:
        TypeError: a route does not say who may use it.
    """
    app = application(web)
    unsaid = [one.path for one in routes(app) if not (one.openapi_extra or {}).get(ROLES_KEY)]
    if unsaid:
        raise TypeError(f"Who may use {', '.join(unsaid)}? Say so with `open_to`.")
    names = [name.strip() for name in web.settings.http_names.split(",") if name.strip()]
    return Guard(app, hosts=(*_LOCAL_NAMES, web.settings.http_host, *names))


def routes(app: FastAPI) -> list[APIRoute]:
    """Return every route of an application, except that of its description.

    FastAPI includes a router as a whole, so the routes are looked up there; each is an `APIRoute`, or there is a hole.
    """
    found = [one for router in app.state.routers for one in router.routes]
    if len(app.routes) != 1 + len(app.state.routers) or not all(isinstance(one, APIRoute) for one in found):
        raise TypeError("A route was added beside the routers: nothing checks who may use it.")
    return found


async def _problem(request: Request, error: Exception) -> Response:
    found = _found(error)
    if is_page(request.url.path):
        return problem_page(request, found)
    return found.response(getattr(request.state, "correlation_id", ""))


def _found(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case SlotwiseError():
            return of_error(error)
        case RequestValidationError():
            first: dict[str, Any] = error.errors()[0]
            return refused(f"{' '.join(map(str, first['loc']))}: {first['msg']}.")
        case HTTPException():
            return Problem(error.status_code, f"{error.detail}.", headers=error.headers)
    return MISTAKE
