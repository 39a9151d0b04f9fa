"""`/ui/search`: from an id to the page of its task or slot."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Query, Response
from fastapi.responses import RedirectResponse

from streams.web.guard import PREFIX
from streams.web.pages.page import Page, PageOf, seen_by

router = APIRouter(prefix=PREFIX)


@router.get("/search", **seen_by("reader", "operator"))
async def search(page: PageOf, q: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Lead to the task or the slot of that id, else to the waiting tasks with that text."""
    text = q.strip()
    found = next(_found(page, text), f"{PREFIX}/waiting?q={quote(text)}")
    return RedirectResponse(found, HTTPStatus.SEE_OTHER, {"Cache-Control": "no-store"})


def _found(page: Page, text: str) -> Iterator[str]:
    for one in page.web.following.partitions.values():
        for pool in one.router.state.pools.values():
            if text in pool.tasks or text in pool.finished:
                yield f"{PREFIX}/tasks/{quote(text)}?pool={quote(pool.name)}"
            elif (slot := pool.slots.get(text)) is not None:
                yield f"{PREFIX}/fleet?pool={quote(pool.name)}&model={quote(slot.model)}"
