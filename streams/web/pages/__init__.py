"""The web pages: one file a page, which makes values of a query and hands them to its template.

`page.py` has what every page shares (access, answers as HTML, CSV and JSON, links), `tables.py` the tables, `charts.py`
the pictures, `sessions.py` who has logged in. Templates escape whatever they are given, and name no style or script of
their own: `static/` has one of each.
"""

from __future__ import annotations

from typing import Final

from streams.web.pages import (
    changes,
    controls,
    dead_letters,
    decisions,
    fleet,
    flow,
    login,
    now,
    routing,
    search,
    static,
    task,
    tasks,
    treatments,
    waiting,
    what_if,
)

#: In the order of the navigation.
PAGES: Final = tuple(
    one.router
    for one in (
        now,
        fleet,
        waiting,
        decisions,
        routing,
        what_if,
        flow,
        dead_letters,
        tasks,
        task,
        search,
        login,
        changes,
        static,
    )
)
#: Where tokens are, so that an order has a name.
OPERATORS: Final = (controls.router, treatments.router)
