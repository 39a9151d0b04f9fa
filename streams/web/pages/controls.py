"""`/ui/controls`: orders of operators. Each says what it will do, is asked once, and shows its event in the log."""

from __future__ import annotations

import uuid
from http import HTTPStatus
from typing import Any, Final

import msgspec
from fastapi import APIRouter, Response

from schemas.events import FleetControl
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.operate.orders import Submitted
from streams.shipped import file_rulebook
from streams.web.guard import PREFIX
from streams.web.pages.orders import BY_NAME, ORDERS, OrderForm, effects
from streams.web.pages.page import OwnFormOf, Page, PageOf, seen_by
from streams.web.problem import Problem
from streams.web.routes.controls import event_of, give

router = APIRouter(prefix=f"{PREFIX}/controls")

#: How long the page waits until the router has taken an order.
WAIT_S: Final = 10.0
#: Characters of an event that the page has.
EVENT_MAX: Final = 4_000
#: What a form sends beside the fields of the order.
_OWN: Final = ("form_key", "sure", "control_id", "at")


@router.get("", **seen_by("operator"))
async def controls(page: PageOf, order: str | None = None) -> Response:
    """The forms, with the fields that the address gives."""
    rulebook = _rulebook(page)
    return page.show(
        "controls.html",
        title="Controls",
        live=False,
        orders=[one for one in ORDERS if order in (None, one.name)],
        models=list(rulebook.models),
        products=[*rulebook.products, *rulebook.models],
        given=page.request.query_params,
        only=order,
    )


@router.post("/{name}", **seen_by("operator"))
async def order(page: PageOf, name: str, fields: OwnFormOf) -> Response:
    """Ask whether it is meant, and where that was answered, give the order."""
    form = BY_NAME.get(name)
    if form is None:
        raise Problem(HTTPStatus.NOT_FOUND, f"There is no order {name}.")
    missing = [field.label for field in form.fields if field.needed and not fields.get(field.name, "").strip()]
    if missing:
        raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"{form.title}: say which {' and '.join(missing)}.")
    common = {key: fields[key] for key in ("control_id", "at") if fields.get(key)}
    event = _event(page, form, {"control_id": str(uuid.uuid4()), "at": page.at, **common}, fields)
    if fields.get("sure") != "yes":
        return _ask(page, form, event, fields)
    given = await give(page.web, event, WAIT_S)
    return page.show(
        "order_given.html",
        title=form.title,
        live=False,
        form=form,
        given=given,
        says=_outcome(given),
        event=_text(event),
        status=HTTPStatus.UNPROCESSABLE_ENTITY if given.refused else HTTPStatus.OK,
    )


def _event(page: Page, form: OrderForm, common: dict[str, Any], fields: dict[str, str]) -> FleetControl:
    assert page.caller is not None  # noqa: S101 -- the route is seen by operators only
    return event_of({**common, **form.make(fields, _rulebook(page))}, page.caller)


def _ask(page: Page, form: OrderForm, event: FleetControl, fields: dict[str, str]) -> Response:
    says = list(effects(event, _concerned(page, event), page.now_ms))
    return page.show(
        "order_asked.html",
        title=form.title,
        live=False,
        form=form,
        event=_text(event),
        says=says,
        fields={
            **{key: value for key, value in fields.items() if key not in _OWN},
            "control_id": event.control_id,
            "at": event.at,
        },
        stale=page.web.following.trouble is not None,
    )


def _concerned(page: Page, event: FleetControl) -> list[Router]:
    following = page.web.following
    if event.pool is not None:
        found = following.router(event.pool)
        return [found] if found is not None else []
    return [one.router for one in following.partitions.values()]


def _rulebook(page: Page) -> Rulebook:
    """Return the rules in force, as far as they are known."""
    for one in page.web.following.partitions.values():
        return one.router.rulebook
    return file_rulebook(page.web.settings)


def _outcome(given: Submitted) -> str:
    if given.refused:
        return f"It was refused: {given.refused[0].reason}"
    if given.open:
        return (
            f"It is in the log, and {len(given.open)} of {len(given.positions)} partitions have not taken it yet: "
            "they do as soon as a worker has them."
        )
    notes = [one.note for one in given.positions if one.note is not None]
    return " ".join(("It is in force.", *notes))


def _text(event: FleetControl) -> str:
    text = msgspec.json.format(msgspec.json.encode(event), indent=2).decode()
    return text if len(text) <= EVENT_MAX else f"{text[:EVENT_MAX]}\n…"
