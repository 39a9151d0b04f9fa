"""The file that describes the HTTP API, and the page about it, are those of the application."""

from __future__ import annotations

import re

import msgspec

from streams.web.access import ANYONE, ROLES, ROLES_KEY
from tests.support.openapi import FILE, text

PAGE = FILE.with_name("http.md")
_ROW = re.compile(r"\| (?P<routes>`(?:GET|POST|DELETE) .*?) \| (?P<roles>[a-z ,]+) \| ")
_ROUTE = re.compile(r"`(?P<method>GET|POST|DELETE) (?P<path>/[^`?]*)")


def roles_by_route(described: bytes) -> dict[tuple[str, str], set[str]]:
    """Return who may use each route; what a path has in braces is the same everywhere."""
    return {
        (method.upper(), re.sub(r"{\w+}", "{id}", path)): set(operation[ROLES_KEY])
        for path, operations in msgspec.json.decode(described)["paths"].items()
        for method, operation in operations.items()
    }


def test_the_description_in_the_repository_is_up_to_date() -> None:
    """`python -m tests.support.openapi` writes it."""
    assert FILE.read_bytes() == text(), "run python -m tests.support.openapi"
    assert msgspec.json.decode(FILE.read_bytes())["openapi"].startswith("3.1")


def test_the_page_says_of_every_route_who_may_use_it() -> None:
    """No route is missing there, and none stands there that is not."""
    said: dict[tuple[str, str], set[str]] = {}
    for row in _ROW.finditer(PAGE.read_text()):
        named = {"all": ", ".join(ROLES), "no token": ANYONE}.get(row["roles"], row["roles"])
        words = set(named.split(", "))
        said |= {(one["method"], one["path"]): words for one in _ROUTE.finditer(row["routes"])}
    assert said == roles_by_route(FILE.read_bytes())
