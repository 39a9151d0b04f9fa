"""`/`: how it is now, what needs a person, and how the last hour went."""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from fastapi import APIRouter, Response
from msgspec import Struct

from streams.operate.dead_letters import CHECKED_MAX, read_dead_letters
from streams.operate.parts import read_parts
from streams.views.dead_letters import DeadLetters
from streams.views.overview import overview
from streams.views.parts import AuditView, Parts
from streams.views.status import WORDS, concerns
from streams.web.guard import PREFIX
from streams.web.pages.page import Id, Page, PageOf, seen_by
from streams.web.pages.tables import ANNOUNCE_A_SLOT, Column, Row, Table
from streams.web.probe import Probe
from streams.web.state import Web

router = APIRouter()

AUDIT_EVERY_S: Final = 2.0
WORKERS_EVERY_S: Final = 10.0
DEAD_LETTERS_EVERY_S: Final = 15.0
#: How far back it is remembered where the journal was, to say for how long the audit has been behind.
REMEMBERED: Final = 120

#: Where each concern leads to.
_LEADS: Final = {
    "routing": f"{PREFIX}/waiting",
    "fleet": f"{PREFIX}/fleet",
    "audit": f"{PREFIX}/flow",
    "dead letters": f"{PREFIX}/dead-letters",
}
#: Where the counts in the sentences lead to, by the last word of each.
_COUNTS: Final = {
    "running": f"{PREFIX}/tasks",
    "waiting": f"{PREFIX}/waiting",
    "done": f"{PREFIX}/waiting?reason=no_capable_model",
    "busy": f"{PREFIX}/fleet?state=busy",
    "free": f"{PREFIX}/fleet?state=free",
    "lost": f"{PREFIX}/fleet?state=lost",
    "new": f"{PREFIX}/dead-letters?state=new",
    "behind": f"{PREFIX}/flow",
}


class AuditNow(Struct, frozen=True):
    """How far the audit is, and for how long it has been behind."""

    view: AuditView
    behind_s: float


@router.get("/", **seen_by("reader", "operator"))
async def now(page: PageOf, pool: Id = None) -> Response:
    """The first page."""
    web = page.web
    found = overview(dict(web.following.partitions), page.now_ms, pool, await workers(web))
    pulse = web.following.pulse.view(page.now_ms)
    audit, dead = await audit_now(web), await dead_letters(web)
    said = concerns(
        found,
        pulse,
        page.now_ms,
        audit=None if audit is None else audit.view,
        audit_behind_s=0.0 if audit is None else audit.behind_s,
        dead=None if dead is None else dead.new(page.now_ms, pool),
    )
    attention = sorted(found.attention, key=lambda one: not one.needs_person)
    return page.show(
        "now.html",
        title="Now",
        tables=(_pools(found.pools, page),),
        found=found,
        pulse=pulse,
        concerns=said,
        words=WORDS,
        leads=_LEADS,
        counts=_COUNTS,
        attention=attention,
        started=bool(web.following.partitions),
    )


def _pools(pools: object, page: Page) -> Table:
    rows = [
        {
            "pool": pool.pool,
            "running": pool.tasks.running,
            "waiting": pool.tasks.waiting,
            "delayed": pool.tasks.delayed,
            "oldest_since": pool.tasks.oldest_since,
            "slots": sum(one.slots.total for one in pool.models),
            "free": sum(one.slots.free for one in pool.models),
            "ev_p50": pool.ev_p50,
            "ev_p90": pool.ev_p90,
        }
        for pool in pools  # type: ignore[attr-defined]
    ]
    return Table(
        name="pools",
        title="Pools",
        columns=(
            Column("pool", "pool", "id", href=lambda row: page.link(pool=row["pool"])),
            Column("running", "running", "number", href=_lead("tasks", "running"), counts=True),
            Column("waiting", "waiting", "number", href=_lead("waiting"), counts=True),
            Column("delayed", "delayed", "number", href=_lead("tasks", "delayed"), counts=True),
            Column("oldest_since", "longest wait", "since"),
            Column("slots", "slots", "number", href=_lead("fleet"), counts=True),
            Column("free", "free", "number", href=_lead("fleet", "free"), counts=True),
            Column("ev_p50", "EV P50", "number"),
            Column("ev_p90", "EV P90", "number"),
        ),
        rows=rows,
        leads=_lead("decisions"),
        empty="No pool has a slot or a task yet. Announce a slot:",
        command=ANNOUNCE_A_SLOT,
    )


def _lead(to: str, state: str | None = None) -> Callable[[Row], str]:
    query = f"&state={state}" if state is not None else ""
    return lambda row: f"{PREFIX}/{to}?pool={row['pool']}{query}"


async def audit_now(web: Web) -> AuditNow | None:
    """Return how far the audit is, as far as is known."""
    return await web.probe("audit", _AuditProbe(web).ask, AUDIT_EVERY_S).latest()


async def workers(web: Web) -> Parts | None:
    """Return who is in the workers' group, as far as is known."""
    ask = functools.partial(read_parts, web.settings, {}, audit=False)
    return await web.probe("workers", ask, WORKERS_EVERY_S).latest()


async def dead_letters(web: Web) -> DeadLetters | None:
    """Return the latest dead letters, as far as they were read."""
    return await _dead_letters_probe(web).latest()


async def dead_letters_now(web: Web) -> DeadLetters:
    """Read the latest dead letters; pages show them from now on.

    Raises:
        KafkaError: the broker does not answer.
    """
    found = await read_dead_letters(web.settings, last=CHECKED_MAX)
    _dead_letters_probe(web).put(found)
    return found


def _dead_letters_probe(web: Web) -> Probe[DeadLetters]:
    ask = functools.partial(read_dead_letters, web.settings, last=CHECKED_MAX)
    return web.probe("dead letters", ask, DEAD_LETTERS_EVERY_S)


class _AuditProbe:
    def __init__(self, web: Web) -> None:
        self._web = web
        #: When the journal ended where, oldest first.
        self._ends: deque[tuple[float, dict[int, int]]] = deque(maxlen=REMEMBERED)

    async def ask(self) -> AuditNow:
        """Ask Postgres, and compare with where the journal was."""
        ends = {number: one.router.seq for number, one in self._web.following.partitions.items()}
        self._ends.append((time.monotonic(), ends))
        view = await asyncio.to_thread(self._web.audit.view, self._web.settings, ends, wait_s=0)
        there = {number: end - view.behind.get(number, 0) for number, end in ends.items()}
        missing = [at_s for at_s, then in self._ends if any(end > there.get(number, 0) for number, end in then.items())]
        return AuditNow(view, time.monotonic() - missing[0] if missing else 0.0)
