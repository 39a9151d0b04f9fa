"""What every page shares: who may see it, the values of the frame around it, links that keep the query, its answers.

A page is for a browser: who is not known is shown the form to log in, under the address that was asked for. Its errors
are pages as well, with the correlation id.
"""

from __future__ import annotations

import hmac
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlencode, urlsplit

from fastapi import Depends, Query, Request, Response
from markupsafe import Markup
from msgspec import Struct

from schemas.vocabulary import Millis, from_millis
from streams.clock import SystemClock
from streams.web.access import ANYONE, ROLES_KEY, Caller, Role
from streams.web.guard import PREFIX
from streams.web.pages import tables
from streams.web.pages.tables import NUMBERS, Column, Table, sorted_by
from streams.web.pages.templating import environment
from streams.web.parameters import OptionalId, OptionalText
from streams.web.problem import Problem, refused
from streams.web.sessions import Session
from streams.web.state import Web, web_of

_FIELDS_MAX: Final = 50


class Place(Struct, frozen=True):
    """One entry of the navigation."""

    path: str
    title: str
    roles: tuple[Role, ...] = ("reader", "operator")


NAVIGATION: Final = (
    Place("/", "Now"),
    Place(f"{PREFIX}/fleet", "Fleet"),
    Place(f"{PREFIX}/waiting", "Waiting"),
    Place(f"{PREFIX}/decisions", "Decisions"),
    Place(f"{PREFIX}/routing", "Routing"),
    Place(f"{PREFIX}/analytics", "Analytics"),
    Place(f"{PREFIX}/what-if", "What if"),
    Place(f"{PREFIX}/flow", "Flow"),
    Place(f"{PREFIX}/dead-letters", "Dead letters"),
    Place(f"{PREFIX}/controls", "Controls", ("operator",)),
)

_templates: Final = environment()


Text = Annotated[OptionalText, Query()]
Id = Annotated[OptionalId, Query()]
Skip = Annotated[int, Query(ge=0, le=1_000_000)]


class LoginNeeded(Exception):
    """Who asks for a page is not known: the form to log in is the answer."""


class Page:
    """One request for a page."""

    def __init__(self, request: Request, web: Web, caller: Caller | None, session: Session | None) -> None:
        self.request, self.web, self.caller, self.session = request, web, caller, session
        self.now_ms: Millis = SystemClock().now_ms()

    def has_role(self, *roles: Role) -> bool:
        """Whether who asks has one of these roles."""
        return self.caller is not None and bool(self.caller.roles & set(roles))

    def link(self, **changes: str | int | None) -> str:
        """Return this page's address with another query: what is None is left out, the rest stays."""
        query = {**self.request.query_params, **changes}
        query.pop("format", None)
        given = {name: str(value) for name, value in query.items() if value is not None and value != ""}
        path = self.request.url.path
        return f"{path}?{urlencode(given)}" if given else path

    @property
    def at(self) -> str:
        """When the page was made."""
        return from_millis(self.now_ms)

    def file(self, table: str, form: str) -> str:
        """Return the address of a table as a file."""
        query = {**self.request.query_params, "table": table, "format": form}
        return f"{self.request.url.path}?{urlencode(query)}"

    def sort_link(self, table: Table, column: Column) -> str:
        """Return this page with a table by a column: numbers the greatest first, followed again the other way round."""
        descending = column.kind in NUMBERS or column.kind == "time"
        if (now := self.sort_of(table, column)) is not None:
            descending = now == "ascending"
        sort = f"{'-' if descending else ''}{table.name}.{column.name}"
        return self.link(sort=sort, skip=None, before=None, after=None)

    def sort(self, otherwise: str) -> str:
        """Return what the address says of a sort, or what holds where it says nothing."""
        return self.request.query_params.get("sort") or otherwise

    def sort_of(self, table: Table, column: Column) -> str | None:
        """Return how a table is sorted by a column, as `aria-sort` has it; None: it is not."""
        sort = self.sort(table.sort)
        if sort.removeprefix("-") != f"{table.name}.{column.name}":
            return None
        return "descending" if sort.startswith("-") else "ascending"

    def sorted_as(self, columns: Collection[str], otherwise: str) -> tuple[str, bool]:
        """Return by which column a page is to sort all rows of a table, and whether the greatest come first.

        The table shows a part of them. `otherwise`: as an address would say it; also names the table.

        Raises:
            Problem: that column is not one of them.
        """
        sort = self.sort(otherwise)
        named, _, column = sort.removeprefix("-").partition(".")
        table = otherwise.removeprefix("-").partition(".")[0]
        if named != table or column not in columns:
            raise refused(f"The table {table} is not sorted by {named}.{column}: it is by {', '.join(columns)}.")
        return column, sort.startswith("-")

    def _sorted(self, found: Sequence[Table]) -> Sequence[Table]:
        """Return the tables as the query sorts them.

        Raises:
            Problem: there is no such table or column.
        """
        sort = self.request.query_params.get("sort")
        if not sort or not found:
            return found
        name, _, column = sort.removeprefix("-").partition(".")
        try:
            by_name = {one.name: one for one in found}
            if by_name[name].sorts is None:
                by_name[name] = sorted_by(by_name[name], column, descending=sort.startswith("-"))
        except KeyError:
            raise refused(f"This page has no table and column {name}.{column} to sort by.") from None
        return tuple(by_name.values())

    def show(
        self, template: str, *, title: str, tables: Sequence[Table] = (), status: int = 200, live: bool = True,
        **values: Any,
    ) -> Response:  # fmt: skip
        """Return the page; or one of its tables as a file, where the query asks for `format=csv` or `json`."""
        form = self.request.query_params.get("format")
        tables = self._sorted(tables)
        if form in ("csv", "json") and tables:
            return self._file(tables, form)
        return Response(
            self.html(template, title=title, tables={one.name: one for one in tables}, live=live, **values),
            status_code=status,
            media_type="text/html; charset=utf-8",
            headers={"Cache-Control": "no-store"},
        )

    def html(self, template: str, *, title: str, live: bool = False, **values: Any) -> str:
        """Return a page as text."""
        following = self.web.following
        known = self.caller is not None
        return _templates.get_template(template).render(
            page=self,
            title=title,
            live=live and known,
            now_ms=self.now_ms,
            here=self.request.url.path,
            navigation=[one for one in NAVIGATION if self.has_role(*one.roles)],
            trouble=following.trouble if known else None,
            correlation_id=self.request.state.correlation_id,
            form_key=Markup('<input type="hidden" name="form_key" value="{}">').format(
                self.session.form_key if self.session is not None else ""
            ),
            **values,
        )

    def _file(self, found: Sequence[Table], form: Any) -> Response:
        wanted = self.request.query_params.get("table")
        table = next((one for one in found if wanted in (None, one.name)), None)
        if table is None:
            raise Problem(
                HTTPStatus.NOT_FOUND, f"This page has no such table: it has {', '.join(t.name for t in found)}."
            )
        return tables.answer(table, form)


def seen_by(*roles: Role) -> dict[str, Any]:
    """Return what a route of a page says of itself: seen by these roles only; none: by everyone."""
    named: list[str] = list(roles) or [ANYONE]
    extra: dict[str, Any] = {"openapi_extra": {ROLES_KEY: named}, "include_in_schema": False}
    return {**extra, "dependencies": [Depends(_Seen(frozenset(roles)))]} if roles else extra


class _Seen:
    def __init__(self, roles: frozenset[Role]) -> None:
        self._roles = roles

    async def __call__(self, request: Request) -> None:
        page = page_of(request)
        if page.caller is None:
            if not page.web.tokens.configured:
                raise Problem(HTTPStatus.FORBIDDEN, "No tokens are configured, so only this machine is served.")
            raise LoginNeeded
        if not page.has_role(*self._roles):
            raise Problem(HTTPStatus.FORBIDDEN, f"This page is for the role {' or '.join(sorted(self._roles))}.")


def page_of(request: Request) -> Page:
    """Return the page that a request is for; who asks is known by a session, or by a token as for the HTTP API."""
    web = web_of(request)
    session = web.sessions.of(request)
    caller = web.tokens.caller(request) or (session.caller if session is not None else None)
    return Page(request, web, caller, session)


async def form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form that one of our own pages sent.

    Raises:
        Problem: another site sent it, or it is no form.
    """
    require_own_site(request)
    text = (await request.body()).decode(errors="replace")
    try:
        fields = parse_qs(text, keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError:
        raise Problem(HTTPStatus.BAD_REQUEST, "The form cannot be read.") from None
    return {name: values[-1] for name, values in fields.items()}


async def own_form_of(request: Request) -> dict[str, str]:
    """Return the fields of a form of a session.

    Raises:
        Problem: it was not sent from a page of this session.
    """
    fields, session = await form_of(request), page_of(request).session
    if session is None or not hmac.compare_digest(session.form_key.encode(), fields.get("form_key", "").encode()):
        raise Problem(
            HTTPStatus.FORBIDDEN, "This form is of another login: open the page again, and send it from there."
        )
    return fields


def require_own_site(request: Request) -> None:
    """Refuse what a page of another site sends.

    Raises:
        Problem: it is from one.
    """
    origin = request.headers.get("origin")
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none") or (
        origin is not None and urlsplit(origin).netloc != request.headers.get("host")
    ):
        raise Problem(HTTPStatus.FORBIDDEN, "A page of another site sent this: it is not done.")


async def _page_of(request: Request) -> Page:  # a coroutine: FastAPI hands functions to a thread
    return page_of(request)


PageOf = Annotated[Page, Depends(_page_of)]
FormOf = Annotated[dict[str, str], Depends(form_of)]
OwnFormOf = Annotated[dict[str, str], Depends(own_form_of)]
