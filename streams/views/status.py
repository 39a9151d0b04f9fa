"""How an installation is, as one sentence for each concern, with a word for how good that is. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

from msgspec import Struct

from schemas.vocabulary import Millis, to_millis
from streams.views.dead_letters import NewDeadLetters
from streams.views.overview import Overview
from streams.views.parts import AuditView
from streams.views.pulse import PulseView
from streams.views.units import many, span, usd

#: From the best to the worst; pages show them as green, amber and red.
Grade: TypeAlias = Literal["well", "look", "act"]
WORDS: Final[dict[Grade, str]] = {"well": "well", "look": "look", "act": "needs a person"}


class Concern(Struct, frozen=True, kw_only=True):
    """One thing that an operator wants to know about."""

    name: str
    grade: Grade
    says: str


def concerns(
    found: Overview,
    pulse: PulseView,
    now_ms: Millis,
    *,
    audit: AuditView | None = None,
    audit_behind_s: float = 0.0,
    dead: NewDeadLetters | None = None,
) -> tuple[Concern, ...]:
    """Return one sentence each of routing, fleet, audit, money and dead letters; None: not asked yet."""
    return (
        _routing(found, now_ms),
        _fleet(found),
        _money(found, pulse),
        *_audit(audit, audit_behind_s),
        *_dead(dead),
    )


def _routing(found: Overview, now_ms: Millis) -> Concern:
    running = sum(pool.tasks.running for pool in found.pools)
    waiting = sum(pool.tasks.waiting for pool in found.pools)
    oldest_ms = min(
        (to_millis(pool.tasks.oldest_since) for pool in found.pools if pool.tasks.oldest_since), default=None
    )
    says = f"{many(running, 'task')} running, {waiting:,} waiting"
    says += f", the oldest for {span(max(0, now_ms - oldest_ms) / 1000)}." if oldest_ms is not None else "."
    incapable = sum(pool.tasks.waiting_by_reason.get("no_capable_model", 0) for pool in found.pools)
    if incapable:
        says += f" {many(incapable, 'task')} can be done by no model of the fleet."
    grade: Grade = "act" if incapable else "look" if found.attention else "well"
    how = {
        "well": "Routing normally",
        "look": "Routing, with something to look at",
        "act": "Routing, and some work is stuck",
    }
    return Concern(name="routing", grade=grade, says=f"{how[grade]}: {says}")


def _fleet(found: Overview) -> Concern:
    models = [(pool, model) for pool in found.pools for model in pool.models]
    slots = [model.slots for _, model in models]
    total = sum(one.total for one in slots)
    if not total:
        return Concern(name="fleet", grade="look", says="No slot has been announced yet.")
    busy, lost = sum(one.leased for one in slots), sum(one.lost for one in slots)
    says = [f"{busy:,} of {many(total, 'slot')} busy, {sum(one.free for one in slots):,} free."]
    closed = dict.fromkeys(model.model for _, model in models if all(cell.gate for cell in model.cells))
    if closed:
        says.append(f"{', '.join(closed)} {'gets' if len(closed) == 1 else 'get'} nothing new.")
    if lost:
        says.append(f"{many(lost, 'slot')} lost.")
    return Concern(name="fleet", grade="act" if lost else "look" if closed else "well", says=" ".join(says))


def _money(found: Overview, pulse: PulseView) -> Concern:
    says = f"{usd(pulse.spent_usd)} spent on finished work in the last hour."
    empty = [
        f"{one.tenant_id} of {pool.pool}" for pool in found.pools for one in pool.budgets if one.available_usd <= 0
    ]
    caps = [f"{cap.of} {cap.name}" for pool in found.pools for cap in pool.caps]
    if caps:
        says += f" Near or above a cap: {', '.join(caps[:3])}{' and more' if len(caps) > 3 else ''}."  # noqa: PLR2004
    if empty:
        says += f" No budget left: {', '.join(empty[:3])}{' and more' if len(empty) > 3 else ''}."  # noqa: PLR2004
    return Concern(name="money", grade="act" if empty else "look" if caps else "well", says=says)


def _audit(audit: AuditView | None, behind_s: float) -> Iterator[Concern]:
    if audit is None:
        yield Concern(name="audit", grade="look", says="The audit has not answered yet.")
    elif audit.trouble is not None:
        yield Concern(name="audit", grade="act", says=audit.trouble)
    elif not audit.behind:
        yield Concern(name="audit", grade="well", says="The audit has every step of the journal.")
    else:
        steps = many(sum(audit.behind.values()), "step")
        late = behind_s > _LATE_S
        says = f"The audit is {steps} behind, for {span(behind_s)}."
        yield Concern(name="audit", grade="act" if late else "well", says=says)


#: A sink that works writes a step in well under a second.
_LATE_S: Final = 30.0


def _dead(dead: NewDeadLetters | None) -> Iterator[Concern]:
    if dead is not None and dead.count:
        yield Concern(name="dead letters", grade="act", says=dead.sentence())
    elif dead is not None:
        yield Concern(name="dead letters", grade="well", says="No new dead letter: nothing was lost or refused.")
