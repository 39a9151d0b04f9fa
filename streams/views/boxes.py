"""The fleet as a picture needs it: the models of a pool, and what each slot does and how far its lease is. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Final, Literal, TypeAlias, get_args

from msgspec import Struct

from schemas.decision import SlotRow
from schemas.vocabulary import Millis, from_millis
from streams.core.router import Router
from streams.core.state.pool import Pool
from streams.core.state.utilisation import LONG_MS, SHORT_MS, BusyCurve
from streams.views.overview import ModelView

BoxState: TypeAlias = Literal["busy", "draining", "lost", "free"]
BOX_STATES: Final[tuple[BoxState, ...]] = get_args(BoxState)


class SlotBox(Struct, frozen=True, kw_only=True):
    """One slot."""

    slot_id: str
    model: str
    account: str | None
    #: `draining`: it is retired, and gets no other task.
    state: BoxState
    since: str
    task_id: str | None
    title: str | None
    lease: int
    lease_ends: str | None
    #: Part of the lease that is over, 0..1; None: no lease.
    lease_share: float | None
    #: Busy share of the last 5 min, and of the last hour.
    busy_5m: float
    busy_1h: float


class ModelLane(Struct, frozen=True, kw_only=True):
    """The slots of one model, as many as are shown."""

    model: ModelView
    #: Of all slots.
    counts: dict[BoxState, int]
    #: In which state those are that are meant; None: all.
    only: BoxState | None
    busy_5m: float
    busy_1h: float
    #: The busy ones first; fewer than there are where they are many.
    boxes: tuple[SlotBox, ...]

    @property
    def meant(self) -> dict[BoxState, int]:
        """How many slots are meant, by state."""
        return self.counts if self.only is None else {self.only: self.counts[self.only]}

    @property
    def total(self) -> int:
        """How many slots are meant."""
        return sum(self.meant.values())


def state_of(row: SlotRow) -> BoxState:
    """Return what a slot does."""
    if row.retired:
        return "draining"
    return {"leased": "busy", "lost": "lost", "free": "free"}[row.state]  # type: ignore[return-value]


def model_lanes(
    router: Router, pool: Pool, models: Iterable[ModelView], now_ms: Millis, *, boxes_max: int, skip: int = 0,
    only: BoxState | None = None,
) -> list[ModelLane]:  # fmt: skip
    """Return a lane for each of these models, with the slots in one state or all.

    `boxes_max` 0: only the counts. `skip` leaves out the first slots.
    """
    rows: dict[str, list[SlotRow]] = {}
    for row in pool.slots.values():
        rows.setdefault(row.model, []).append(row)
    found = []
    for model in models:
        own = rows.get(model.model, [])
        counts: dict[BoxState, int] = dict.fromkeys(BOX_STATES, 0)
        meant = [row for row in own if only in (None, state_of(row))]
        for row in own:
            counts[state_of(row)] += 1
        shown = sorted(meant, key=lambda row: (BOX_STATES.index(state_of(row)), row.slot_id)) if boxes_max else []
        curve, many = pool.model_busy.get(model.model), max(1, len(own))
        found.append(
            ModelLane(
                model=model,
                counts=counts,
                only=only,
                busy_5m=_share(curve, now_ms, SHORT_MS, many),
                busy_1h=_share(curve, now_ms, LONG_MS, many),
                boxes=tuple(_box(router, pool, row, now_ms) for row in islice(shown, skip, skip + boxes_max)),
            )
        )
    return found


def slot_boxes(router: Router, pool: Pool, now_ms: Millis) -> Iterable[SlotBox]:
    """Return every slot of a pool, by model and id."""
    for row in sorted(pool.slots.values(), key=lambda row: (row.model, row.slot_id)):
        yield _box(router, pool, row, now_ms)


def _box(router: Router, pool: Pool, row: SlotRow, now_ms: Millis) -> SlotBox:
    task = pool.tasks.get(row.task_id) if row.task_id is not None else None
    ends_ms, curve = row.lease_expires_at_ms, pool.busy.get(row.slot_id)
    share = None
    if ends_ms is not None and row.state == "leased":
        share = min(1.0, max(0.0, (now_ms - row.since_ms) / max(1, ends_ms - row.since_ms)))
    return SlotBox(
        slot_id=row.slot_id,
        model=row.model,
        account=row.account,
        state=state_of(row),
        since=from_millis(row.since_ms),
        task_id=row.task_id,
        title=None if task is None else task.task.title,
        lease=row.lease,
        lease_ends=from_millis(ends_ms) if ends_ms is not None else None,
        lease_share=share,
        busy_5m=_share(curve, Millis(max(now_ms, router.now_ms)), SHORT_MS, 1),
        busy_1h=_share(curve, Millis(max(now_ms, router.now_ms)), LONG_MS, 1),
    )


def _share(curve: BusyCurve | None, now_ms: Millis, window_ms: int, slots: int) -> float:
    return 0.0 if curve is None else min(1.0, curve.busy_ms(now_ms, window_ms) / window_ms / slots)
