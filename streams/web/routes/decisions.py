"""`/decisions`: the latest decisions of all tasks, as this process has followed them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, Query, Response
from pydantic import StringConstraints

from schemas.vocabulary import DecisionOutcome, Mode
from streams.operate.following import LATEST_MAX
from streams.views.decisions import Wanted, row_of
from streams.views.find import has_words
from streams.web.access import open_to
from streams.web.parameters import EMPTY, OptionalId, OptionalText
from streams.web.routes.tasks import decision_fields
from streams.web.state import WebOf, answer

router = APIRouter(prefix="/decisions", tags=["reads"])


def _only(what: str) -> Any:
    return Query(description=f"Only {what}; `(none)`: those without one.")


_Ev: TypeAlias = Annotated[float | None, EMPTY]
_Tier: TypeAlias = Annotated[Annotated[str, StringConstraints(pattern=r"^([1-9]|\(none\))$")] | None, EMPTY]


async def wanted_of(  # noqa: PLR0913, PLR0917 - the address has as many filters
    pool: Annotated[OptionalId, Query(description="Only this pool.")] = None,
    model: Annotated[OptionalText, _only("of this chosen model")] = None,
    layer: Annotated[OptionalText, _only("of tasks of this layer")] = None,
    lane: Annotated[OptionalText, _only("of tasks of this lane")] = None,
    reason: Annotated[OptionalText, Query(description="Only with this reason code.")] = None,
    outcome: Annotated[DecisionOutcome | None, EMPTY, Query(description="Only this outcome.")] = None,
    tenant: Annotated[OptionalText, _only("of tasks of this tenant")] = None,
    role: Annotated[OptionalText, _only("of tasks for this agent role")] = None,
    provider: Annotated[OptionalText, _only("of this chosen model's provider")] = None,
    tier: Annotated[_Tier, _only("of this chosen tier")] = None,
    complexity: Annotated[OptionalText, _only("of tasks of this complexity")] = None,
    mode: Annotated[Mode | None, EMPTY, Query(description="Only of this mode.")] = None,
    ev_from: Annotated[_Ev, Query(description="Only of tasks with an EV at or above this one.")] = None,
    ev_below: Annotated[_Ev, Query(description="Only of tasks with an EV below this one.")] = None,
) -> Wanted:
    """Return which decisions an address means; pages have the same filters."""
    return Wanted(
        pool=pool, model=model, layer=layer, lane=lane, reason=reason, outcome=outcome, tenant=tenant, role=role,
        provider=provider, tier=tier, complexity=complexity, mode=mode, ev_from=ev_from, ev_below=ev_below,
    )  # fmt: skip


WantedOf = Annotated[Wanted, Depends(wanted_of)]


@router.get("", **open_to("reader", "operator"))
async def read(
    web: WebOf,
    wanted: WantedOf,
    find: Annotated[
        str | None, Query(max_length=200, description="Only of tasks whose title has words that begin with these.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=LATEST_MAX, description="Most decisions.")] = 100,
) -> Response:
    """The newest decisions first; older ones are in the audit."""
    found = [
        decision_fields(one)
        for one in reversed(web.require_state().latest)
        if wanted.takes(row_of(one.decision, one.step)) and (find is None or has_words(one.decision.title, find))
    ]
    return answer({"decisions": found[:limit]})
