"""The style sheet, the script and the icon, as they are in the package."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Response

from streams.web.guard import PREFIX
from streams.web.pages.page import seen_by
from streams.web.pages.templating import STATIC
from streams.web.problem import Problem

router = APIRouter(prefix=f"{PREFIX}/static")


@router.get("/{name}", **seen_by())
async def static(name: str) -> Response:
    """One of the files; its address changes with the version."""
    if name not in STATIC:
        raise Problem(HTTPStatus.NOT_FOUND, "There is no such file.")
    kind, content = STATIC[name]
    return Response(content, media_type=kind, headers={"Cache-Control": "public, max-age=86400"})
