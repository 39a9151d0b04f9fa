"""`/ui/dead-letters/replay` and `drop`: operators send dead letters again, or put them away; each is asked once.

Asked is about dead letters by their addresses, so that what is done is what was shown, whatever came in between.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, Literal, TypeAlias

import aiokafka.errors
from fastapi import APIRouter, Response

from streams.operate.dead_letters import Treatment, drop, named, replay, require_new
from streams.views.dead_letters import DeadLetters, DeadLetterView, Selection
from streams.views.units import many
from streams.web.guard import PREFIX
from streams.web.pages.now import dead_letters_now
from streams.web.pages.page import OwnFormOf, Page, PageOf, seen_by
from streams.web.problem import Problem, broker_silent

router = APIRouter(prefix=f"{PREFIX}/dead-letters")

How: TypeAlias = Literal["replay", "drop"]
#: Dead letters that are treated at once: as many as the form has room for.
AT_ONCE_MAX: Final = 500
_SAYS: Final[dict[How, str]] = {
    "replay": "They are sent again, with key and headers as they were, to the topics that they came from. A task that "
    "was given up is sent as the task, and is done again. What would be refused again is not sent.",
    "drop": "They need nothing more: `slotwise check` and these pages pass over them. They stay in their topics until "
    "retention takes them, with your name and the reason.",
}


@router.post("/{how}", **seen_by("operator"))
async def treat(page: PageOf, how: How, fields: OwnFormOf) -> Response:
    """Ask whether it is meant, and where that was answered, do it."""
    because = " ".join(fields.get("because", "").split())
    if how == "drop" and not because:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "Drop: say because of what they need nothing more.")
    sure = fields.get("sure") == "yes"
    try:
        found = await dead_letters_now(page.web)
        views, more = _meant(page, found, fields)
        done = await _treat(page, how, found, views, because, dry_run=not sure)
        if sure:
            await dead_letters_now(page.web)
    except (aiokafka.errors.KafkaError, OSError) as error:
        raise broker_silent(
            page.web.settings.broker, error, "look at the dead letters again before it is done again"
        ) from error
    return page.show(
        "treatment.html",
        title="Dead letters",
        live=False,
        how=how,
        sure=sure,
        says=_says(how, done, sure=sure),
        what=_SAYS[how],
        done=done,
        views=views,
        more=more,
        because=because,
    )  # fmt: skip


def _meant(page: Page, found: DeadLetters, fields: dict[str, str]) -> tuple[list[DeadLetterView], int]:
    """Return the dead letters that a form names, or else the new ones of its filter; and how many more there are.

    Raises:
        DeadLetterError: one that is named is not there, or is not new.
        Problem: none is meant.
    """
    addresses = fields.get("dead_letters", "").split()
    if addresses:
        views = named(found, addresses)
        require_new(views)
    else:
        filtered = Selection(topic=fields.get("topic") or None, reason=fields.get("reason") or None, state="new")
        views = found.views(page.now_ms, filtered)
    if not views:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, "No new dead letter matches: nothing was done.")
    return views[:AT_ONCE_MAX], max(0, len(views) - AT_ONCE_MAX)


async def _treat(
    page: Page, how: How, found: DeadLetters, views: list[DeadLetterView], because: str, *, dry_run: bool
) -> Treatment:
    assert page.caller is not None  # noqa: S101 -- the route is seen by operators only
    if how == "replay":
        return await replay(page.web.settings, found, views, by=page.caller.name, dry_run=dry_run)
    return await drop(page.web.settings, found, views, by=page.caller.name, because=because, dry_run=dry_run)


def _says(how: How, done: Treatment, *, sure: bool) -> str:
    if not sure:
        return f"{how.title()} {many(done.done, 'dead letter')}: is this meant?"
    verb = {"replay": "replayed", "drop": "dropped"}[how]
    return f"{many(done.done, 'dead letter')} {'was' if done.done == 1 else 'were'} {verb}."
