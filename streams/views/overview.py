"""The present state for an operator: pools, models, marks, quotas, budgets, waits, and what needs attention. Pure.

It is made from the routers of some partitions and a time. The rules themselves say what is refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import LedgerRow, SlotRow
from schemas.vocabulary import Millis, from_millis
from streams.clock import DIFFERENCE_MS_MAX
from streams.core.index.pool_index import PoolIndex
from streams.core.policy.case import Candidate, Moment
from streams.core.policy.lost_slots import lost_slots
from streams.core.policy.rulebook import Rulebook
from streams.core.policy.rules import refusing_now
from streams.core.policy.rules.drained import Drained
from streams.core.policy.rules.quota import usage
from streams.core.router import Router
from streams.core.state.marks import Account, Marks
from streams.core.state.pool import Pool
from streams.views.attention import Attention
from streams.views.caps import Cap, cap_of
from streams.views.dead_letters import NewDeadLetters
from streams.views.lane_state import LaneLine
from streams.views.parts import Parts, parts_attention
from streams.views.units import many


class RecoveredPartition(Struct, frozen=True, kw_only=True):
    """A partition as it was read: its state, and the policy and catalogue of the latest step that was read."""

    router: Router
    #: Hashes of policy and catalogue; None: no step had to be read.
    decided_by: tuple[str, str] | None = None
    #: How far the worker's clock was ahead of the broker's when it last sent a tick; None: not known.
    clock_ahead_ms: int | None = None

    @property
    def known(self) -> bool:
        """Whether the router has the rules that decide in the partition, as far as is known."""
        rulebook = self.router.rulebook
        return self.decided_by in (None, (rulebook.policy_hash, rulebook.catalog_hash))


class Slots(Struct, frozen=True, kw_only=True):
    """Slots by state."""

    free: int = 0
    leased: int = 0
    #: Deprecated: the same as `leased`; gone in 0.2.0.
    held: int = 0
    #: Their lease ran out; not used until they report.
    lost: int = 0
    #: Retired slots whose task has not ended.
    retiring: int = 0

    @property
    def total(self) -> int:
        """How many there are."""
        return self.free + self.leased + self.lost + self.retiring


class CellView(Struct, frozen=True, kw_only=True):
    """The slots of one model under one account, and the gate that refuses them, if any."""

    account: str | None
    slots: Slots
    #: Ids of the lost ones.
    lost: tuple[str, ...]
    #: The gate of those that look at marks which refuses every task now, and its reason; None: no gate does.
    gate: str | None
    reason: str | None
    #: Time at which it opens again by itself; None: unknown.
    until: str | None
    #: Strictest window of the model's product for this account, 0..1.
    usage: float
    #: Flags of the quota curve, such as `watching`.
    flags: tuple[str, ...]


class ModelView(Struct, frozen=True, kw_only=True):
    """One model of a pool's fleet."""

    model: str
    product: str
    tier: int
    slots: Slots
    exhausted_until: str | None
    drained: bool
    drained_until: str | None
    cells: tuple[CellView, ...]


class Mark(Struct, frozen=True, kw_only=True):
    """An exhausted product."""

    product: str
    account: str | None
    until: str


class Drain(Struct, frozen=True, kw_only=True):
    """A drained model; `until` None: without end."""

    model: str
    until: str | None


class Window(Struct, frozen=True, kw_only=True):
    """Usage of one window, as last reported."""

    product: str
    account: str | None
    window: str
    utilisation: float
    resets_at: str | None
    status: str | None


class Budget(Struct, frozen=True, kw_only=True):
    """A tenant's money in one pool, in US dollars: available + reserved + consumed = credited."""

    tenant_id: str
    credited_usd: float
    available_usd: float
    reserved_usd: float
    consumed_usd: float


class Tasks(Struct, frozen=True, kw_only=True):
    """Tasks that are not finished."""

    waiting: int
    running: int
    #: Not to be served yet: `not_before`, or a back-off after a failure.
    delayed: int
    #: Deprecated: the same as `delayed`; gone in 0.2.0.
    held: int
    #: Waiting tasks by the headline last announced.
    waiting_by_reason: dict[str, int]
    #: Start of the longest wait.
    oldest_since: str | None


class PoolView(Struct, frozen=True, kw_only=True):
    """One pool."""

    pool: str
    partition: int
    tasks: Tasks
    models: tuple[ModelView, ...]
    exhausted: tuple[Mark, ...]
    drained: tuple[Drain, ...]
    quotas: tuple[Window, ...]
    budgets: tuple[Budget, ...]
    caps: tuple[Cap, ...]
    ev_p50: float | None
    ev_p90: float | None
    #: Tasks sent again after their end and ignored, since the beginning.
    duplicates: int


class PartitionView(Struct, frozen=True, kw_only=True):
    """The position of one partition, and the rules by which it decides."""

    partition: int
    #: Number of its next step.
    seq: int
    #: Time of its last input; None: it never had one.
    now: str | None
    policy: str
    catalog: str
    #: Whether an activation set these rules; else they are those of the worker's files.
    activated: bool
    #: Whether this overview was made by the same rules.
    known: bool
    #: Marks that new pools begin with.
    exhausted: tuple[Mark, ...]
    drained: tuple[Drain, ...]
    quotas: tuple[Window, ...]


class Overview(Struct, frozen=True, kw_only=True):
    """The whole."""

    at: str
    well: bool
    #: One sentence for each thing that needs attention: what each of `attention` says.
    problems: tuple[str, ...]
    #: The same, and which of them need a person.
    attention: tuple[Attention, ...]
    partitions: tuple[PartitionView, ...]
    pools: tuple[PoolView, ...]
    #: The parts around the router; None: not looked at.
    parts: Parts | None = None
    #: None: nothing was read of them.
    dead_letters: NewDeadLetters | None = None
    #: The lanes of the last 24 h, by the audit; None: not asked.
    lanes: tuple[LaneLine, ...] | None = None


def with_lanes(found: Overview, lanes: tuple[LaneLine, ...]) -> Overview:
    """Add the state of each lane; a degraded one needs a person."""
    attention = (*found.attention, *(Attention(says=one.sentence()) for one in lanes if one.state == "degraded"))
    problems = tuple(one.says for one in attention)
    return replace(found, well=not problems, problems=problems, attention=attention, lanes=lanes)


def with_dead_letters(found: Overview, new: NewDeadLetters) -> Overview:
    """Add the dead letters that are new, which need a person."""
    attention = (*found.attention, Attention(says=new.sentence())) if new.count else found.attention
    problems = tuple(one.says for one in attention)
    return replace(found, well=not problems, problems=problems, attention=attention, dead_letters=new)


def overview(
    recovered: Mapping[int, RecoveredPartition], now_ms: Millis, pool: str | None = None, parts: Parts | None = None
) -> Overview:
    """Return the overview of all pools of these partitions, or of one, and of the parts around the router."""
    partitions = tuple(_partition(number, one, now_ms) for number, one in sorted(recovered.items()))
    pools = tuple(
        _pool(router, found, Millis(max(now_ms, router.now_ms)))
        for router in (one.router for _, one in sorted(recovered.items()))
        for name, found in sorted(router.state.pools.items())
        if pool in (None, name) and (found.slots or found.tasks or found.ledgers)
    )
    attention = (
        *(Attention(says=says) for says in (*_disagreements(partitions), *_clocks(recovered))),
        *(parts_attention(parts) if parts is not None else ()),
        *(one for found in pools for one in _attention(found)),
    )
    if pool is not None and not pools:
        attention = (*attention, Attention(says=f"No pool {pool} is known: nothing there has slots, tasks or budgets."))
    return Overview(
        at=from_millis(now_ms),
        well=not attention,
        problems=tuple(one.says for one in attention),
        attention=attention,
        partitions=partitions,
        pools=pools,
        parts=parts,
    )


def _partition(number: int, one: RecoveredPartition, now_ms: Millis) -> PartitionView:
    router = one.router
    policy, catalog = one.decided_by or (router.rulebook.policy_hash, router.rulebook.catalog_hash)
    return PartitionView(
        partition=number,
        seq=router.seq,
        now=from_millis(router.now_ms) if router.seq else None,
        policy=policy,
        catalog=catalog,
        activated=router.state.activated is not None,
        known=one.known,
        **_marks(router.state.marks, now_ms),
    )


def _pool(router: Router, pool: Pool, now_ms: Millis) -> PoolView:
    percentiles = pool.percentiles
    return PoolView(
        pool=pool.name,
        partition=router.state.number,
        tasks=_tasks(router.indexes[pool.name]),
        models=tuple(_models(router.rulebook, pool, now_ms)),
        **_marks(pool.marks, now_ms),
        budgets=tuple(_budget(row) for _, row in sorted(pool.ledgers.items())),
        caps=tuple(map(cap_of, router.indexes[pool.name].breaker.readings(now_ms))),
        ev_p50=percentiles.p50 if percentiles is not None else None,
        ev_p90=percentiles.p90 if percentiles is not None else None,
        duplicates=pool.duplicates,
    )


def _marks(marks: Marks, now_ms: Millis) -> dict[str, Any]:
    """Return the marks in force, and the used share of each quota."""
    return {
        "exhausted": tuple(
            Mark(product=product, account=account, until=from_millis(until_ms))
            for (product, account), until_ms in marks.exhausted.items()
            if until_ms > now_ms
        ),
        "drained": tuple(
            Drain(model=model, until=from_millis(until_ms) if until_ms is not None else None)
            for model, until_ms in marks.drained.items()
            if until_ms is None or until_ms > now_ms
        ),
        "quotas": tuple(_windows(marks, now_ms)),
    }


def _tasks(index: PoolIndex) -> Tasks:
    count, oldest_ms = index.states(), index.oldest_ms()
    return Tasks(
        waiting=count["waiting"],
        running=count["running"],
        delayed=count["delayed"],
        held=count["delayed"],
        waiting_by_reason=dict(index.announced().most_common()),
        oldest_since=from_millis(oldest_ms) if oldest_ms is not None else None,
    )


def _models(rulebook: Rulebook, pool: Pool, now_ms: Millis) -> Iterable[ModelView]:
    cells: dict[str, dict[Account, list[SlotRow]]] = {}
    for slot in pool.slots.values():
        cells.setdefault(slot.model, {}).setdefault(slot.account, []).append(slot)
    moment = Moment(rulebook=rulebook, marks=pool.marks, now_ms=now_ms)
    for name in sorted(cells, key=lambda one: rulebook.rank[one]):
        model = rulebook.models[name]
        views = tuple(
            _cell(moment, Candidate(model, account), rows)
            for account, rows in sorted(cells[name].items(), key=lambda one: one[0] or "")
        )
        used_up = all(view.gate == "exhausted" for view in views)
        drained, drained_ms = Drained().refuses(moment, Candidate(model)), pool.marks.drained.get(name)
        yield ModelView(
            model=name,
            product=model.product,
            tier=model.tier,
            slots=_slots(row for rows in cells[name].values() for row in rows),
            # The model is exhausted when every account of it is; the first reset makes it available.
            exhausted_until=min(view.until for view in views if view.until is not None) if used_up else None,
            drained=drained,
            drained_until=from_millis(drained_ms) if drained and drained_ms is not None else None,
            cells=views,
        )


def _cell(moment: Moment, at: Candidate, rows: list[SlotRow]) -> CellView:
    """Evaluate the gates that need no task."""
    marks, now_ms = moment.marks, moment.now_ms
    rule = refusing_now(moment, at)
    ends_ms = rule.ends_ms(moment, at) if rule is not None else None
    return CellView(
        account=at.account,
        slots=_slots(rows),
        lost=tuple(sorted(row.slot_id for row in rows if row.state == "lost" and not row.retired)),
        gate=rule.gate if rule is not None else None,
        reason=rule.reason(moment, at) if rule is not None else None,
        until=from_millis(ends_ms) if ends_ms is not None else None,
        usage=usage(marks, at.model.product, at.account, now_ms),
        flags=moment.rulebook.policy.quota.flags(at.account, marks, now_ms),
    )


def _slots(rows: Iterable[SlotRow]) -> Slots:
    count = Counter("retiring" if row.retired else row.state for row in rows)
    leased = count["leased"]
    return Slots(free=count["free"], leased=leased, held=leased, lost=count["lost"], retiring=count["retiring"])


def _windows(marks: Marks, now_ms: Millis) -> Iterable[Window]:
    for (product, account, window), row in marks.quotas.items():
        over = row.resets_at_ms is not None and row.resets_at_ms <= now_ms
        yield Window(
            product=product,
            account=account,
            window=window,
            utilisation=0.0 if over else min(1.0, row.utilisation),
            resets_at=from_millis(row.resets_at_ms) if row.resets_at_ms is not None and not over else None,
            status=row.status,
        )


def _budget(row: LedgerRow) -> Budget:
    return Budget(
        tenant_id=row.tenant_id,
        credited_usd=row.credited_uusd / 1e6,
        available_usd=row.available_uusd / 1e6,
        reserved_usd=row.reserved_uusd / 1e6,
        consumed_usd=row.consumed_uusd / 1e6,
    )


def _disagreements(partitions: Iterable[PartitionView]) -> Iterable[str]:
    rules: dict[tuple[str, str], list[PartitionView]] = {}
    for one in partitions:
        rules.setdefault((one.policy, one.catalog), []).append(one)
    if len(rules) > 1:
        hashes = "; ".join(
            f"policy {policy} and catalogue {catalog} on {', '.join(str(one.partition) for one in on)}"
            for (policy, catalog), on in rules.items()
        )
        yield f"The partitions decide by different rules: {hashes}. Activate one policy on all of them."
    others = [str(one.partition) for on in rules.values() for one in on if not one.known]
    if others:
        yield (
            f"The workers of partition {', '.join(others)} decide by other files than those here: name theirs with "
            "--policy and --catalog, or activate yours; this overview may differ from what they do."
        )


def _clocks(recovered: Mapping[int, RecoveredPartition]) -> Iterable[str]:
    differences: dict[int, list[str]] = {}
    for number, one in sorted(recovered.items()):
        if one.clock_ahead_ms is not None and abs(one.clock_ahead_ms) > DIFFERENCE_MS_MAX:
            differences.setdefault(round(one.clock_ahead_ms / 1000), []).append(str(number))
    for ahead_s, on in differences.items():
        than = "ahead of" if ahead_s > 0 else "behind"
        yield (
            f"The clock of the worker of partition {', '.join(on)} was {abs(ahead_s)} s {than} the broker's at its "
            "last tick: set both by NTP."
        )


def _attention(pool: PoolView) -> Iterable[Attention]:
    for model in pool.models:
        for cell in model.cells:
            who = model.model if cell.account is None else f"{model.model} of {cell.account}"
            if cell.reason is not None:
                says = f"{pool.pool}: {who} gets nothing new: {cell.reason}"
                yield Attention(says=says, needs_person=cell.until is None)
            if cell.lost:
                many = "1 slot" if len(cell.lost) == 1 else f"{len(cell.lost)} slots"
                says = f"{pool.pool}: {many} of {who} lost, as a lease ran out: {lost_slots(cell.lost, pool.pool)}"
                yield Attention(says=says)
    if count := pool.tasks.waiting_by_reason.get("lost"):
        yield Attention(says=f"{pool.pool}: {_wait(count)} that only lost slots could do.")
    if count := pool.tasks.waiting_by_reason.get("no_capable_model"):
        yield Attention(says=f"{pool.pool}: {_wait(count)} that no model of the fleet is good enough for.")
    for budget in pool.budgets:
        if budget.available_usd <= 0:
            left = f"${budget.available_usd:.2f}"
            yield Attention(says=f"{pool.pool}: tenant {budget.tenant_id} has {left} left of its budget.")
    yield from (cap.attention(pool.pool) for cap in pool.caps)


def _wait(count: int) -> str:
    return f"{many(count, 'task')} {'waits' if count == 1 else 'wait'}"
