"""Where a task would go now: the router itself decides on the present state, and the step is discarded."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any, Final

import msgspec
from msgspec import Struct

from schemas.codec import read_event
from schemas.decision import Advice, Decision
from schemas.events import SlotFreed, TaskPending
from schemas.input import Input, Unreadable
from schemas.vocabulary import DIMENSIONS, INPUT_TOPICS, SLOT_FREED, TASK_PENDING, Millis, from_millis
from streams.clock import SystemClock
from streams.core.policy.document import nearest
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import MISTAKE, SlotwiseError
from streams.operate.known_names import unknown_task_type
from streams.operate.read_partitions import partitions_of, read_partitions
from streams.plugins.advisor import Plugins
from streams.settings import Settings
from streams.shipped import file_rulebook
from streams.topics import check_topics

TASKS: Final = INPUT_TOPICS.index(TASK_PENDING)
#: The default pool.
MAIN: Final = "main"
SLOTS: Final = INPUT_TOPICS.index(SLOT_FREED)
#: Fields of a task that have no option of their own.
OTHERS: Final = frozenset(TaskPending.__struct_fields__) - {
    *("task_id", "pool", "at", "task_type", "requires", "complexity", "agent_role", "ev", "priority", "quest_priority"),
    *("input_tokens", "output_tokens", "tenant_id", "lane", "strategy", "objective", "floor_model", "max_tier"),
    *("local_only", "not_before"),
}


class RecommendError(SlotwiseError):
    """The question is not valid; the message says what is allowed."""

    exit_code = MISTAKE


class Verdict(Struct, frozen=True, omit_defaults=True):
    """The verdict on one model."""

    gate: str
    score: float | None = None


class Recommendation(Struct, frozen=True, kw_only=True):
    """The decision that the router would make."""

    pool: str
    #: `routed`, `waiting`, or the end that it would have at once.
    outcome: str
    reason_code: str
    reason: str
    model: str | None
    slot_id: str | None
    tier: int | None
    strategy: str
    objective: str | None
    complexity: str | None
    lifted: bool
    max_tokens: int | None
    estimated_cost_usd: float | None
    saved_vs_premium_usd: float | None
    #: Position in service order of a task that would wait.
    position: int | None
    flags: tuple[str, ...]
    alternatives: dict[str, Verdict]
    policy: str
    catalog: str


def type_note(task_type: str, strategy: str, rulebook: Rulebook) -> str | None:
    """Say that a type of work chose no model: nothing knows it, or its list was not asked; None: it did."""
    models = rulebook.policy.strategy.preference.get(task_type)
    if models is None or strategy == "preference":
        return unknown_task_type(task_type, rulebook)
    return (
        f"The list of task_type {task_type} ({', '.join(models)}) was not asked: the strategy is {strategy}. "
        "--strategy preference asks it."
    )


def bars(options: Iterable[str]) -> dict[str, int]:
    """Read `coding=8,safety=9`.

    Raises:
        RecommendError: a part of it has another form.
    """
    found: dict[str, int] = {}
    for part in (part.strip() for text in options for part in text.split(",")):
        name, _, bar = part.partition("=")
        if not bar.isdecimal():
            raise RecommendError(f"--requires {part!r} says no bar: write it as coding=8.")
        if name not in DIMENSIONS:
            raise RecommendError(f"--requires: models are not rated on {name!r}.{nearest(name, DIMENSIONS)}")
        found[name] = int(bar)
    return found


def others(options: Iterable[str]) -> dict[str, Any]:
    """Read `has_revision_history=true`: a value is JSON where it can be, else text.

    Raises:
        RecommendError: a task has no such field, or there is an option of its own for it.
    """
    found: dict[str, Any] = {}
    for part in options:
        name, _, text = part.partition("=")
        if name not in OTHERS:
            raise RecommendError(f"--field: {name!r} is none that could be said this way.{nearest(name, OTHERS)}")
        try:
            found[name] = msgspec.json.decode(text)
        except msgspec.DecodeError:
            found[name] = text
    return found


def fields_of(**fields: Any) -> dict[str, Any]:
    """Return the fields of a task that are given."""
    return {name: value for name, value in fields.items() if value is not None and value is not False and value != {}}


async def router_of(settings: Settings, pool: str | None) -> tuple[Router, str]:
    """Read the partition of a pool, or of the only pool.

    Raises:
        RecommendError: there is none, or there are several.
    """
    check_topics(settings)
    known = await _with_slots(settings, partitions_of(settings, pool))
    if pool is None and (len(known) == 1 or MAIN in known):
        pool = MAIN if MAIN in known else next(iter(known))
    if pool is None:
        hint = (
            f"name one of {', '.join(sorted(known))} with --pool" if known else "announce slots, or ask with --offline"
        )
        raise RecommendError(f"There are {len(known)} pools with slots: {hint}.")
    if pool not in known:
        others = await _with_slots(settings, range(settings.partitions))
        raise RecommendError(f"Pool {pool} has no slots.{nearest(pool, others)}")
    return known[pool], pool


async def _with_slots(settings: Settings, partitions: Iterable[int]) -> dict[str, Router]:
    """Return the pools of these partitions that have slots, each with the router of its partition."""
    routers = [one.router for one in (await read_partitions(settings, partitions)).values()]
    return {name: router for router in routers for name, pool in router.state.pools.items() if pool.slots}


def offline_router(settings: Settings) -> tuple[Router, str]:
    """Return a router with one pool in which every model of the configured catalogue has a free slot."""
    rulebook, pool, now_ms = file_rulebook(settings), "offline", SystemClock().now_ms()
    announced = [
        SlotFreed(slot_id=f"{model}-1", pool=pool, at=from_millis(now_ms), model=model) for model in rulebook.models
    ]
    return fleet_router(rulebook, announced, now_ms), pool


def fleet_router(rulebook: Rulebook, slots: Iterable[SlotFreed], now_ms: Millis) -> Router:
    """Return a router without a history to which these slots were announced at that time.

    Raises:
        RecommendError: it refuses one of them.
    """
    router = Router(0, rulebook)
    step = router.handle([Input(SLOTS, place, now_ms, slot) for place, slot in enumerate(slots)])
    if step.rejected:
        raise RecommendError(f"Slot {step.rejected[0].offset + 1} of the fleet: {step.rejected[0].reason}")
    router.apply(step)
    return router


async def recommendation(
    router: Router, pool: str, fields: dict[str, Any], clock_ms: Millis, plugins: Plugins | None = None
) -> Recommendation:
    """Return the router's decision about a task with these fields, as if it arrived at that time; plug-ins are called.

    Raises:
        RecommendError: the router would refuse such a task.
    """
    now_ms = Millis(max(router.now_ms, clock_ms))
    value = {"task_id": f"recommend-{uuid.uuid4()}", "pool": pool, "at": from_millis(now_ms), **fields}
    event = read_event(TASK_PENDING, pool.encode(), msgspec.json.encode(value), ())
    if isinstance(event, Unreadable):
        raise RecommendError(event.reason)
    assert isinstance(event, TaskPending)  # noqa: S101 - the topic's one kind
    advice = await _advice(plugins or Plugins(), router.rulebook, event)
    step = router.handle([Input(TASKS, router.position(TASKS) + 1, now_ms, event, advice=advice)])
    if step.rejected:
        raise RecommendError(step.rejected[0].reason)
    decision = next((one for one in step.decisions if one.task_id == value["task_id"]), None)
    if decision is None:
        raise RecommendError("field not_before: a task that is delayed is decided about later, not now; leave it out.")
    return _recommendation(router, decision)


async def _advice(plugins: Plugins, rulebook: Rulebook, task: TaskPending) -> Advice | None:
    """Call the policy's plug-ins, as a worker would when the task arrives."""
    try:
        advisor = plugins.advisor(rulebook)
        return None if advisor is None else (await advisor.advise([task]))[0]
    finally:
        plugins.close()


def _recommendation(router: Router, decision: Decision) -> Recommendation:
    return Recommendation(
        pool=decision.pool,
        outcome=decision.outcome,
        reason_code=decision.reason_code,
        reason=decision.reason,
        model=decision.chosen_model,
        slot_id=decision.chosen_slot_id,
        tier=decision.tier,
        strategy=decision.strategy,
        objective=decision.objective,
        complexity=decision.complexity,
        lifted=decision.lifted,
        max_tokens=decision.max_tokens,
        estimated_cost_usd=_usd(decision.estimated_cost_uusd),
        saved_vs_premium_usd=_usd(decision.saved_vs_premium_uusd),
        position=decision.position,
        flags=decision.flags,
        alternatives=msgspec.json.decode(decision.alternatives, type=dict[str, Verdict]),
        policy=router.rulebook.policy_hash,
        catalog=router.rulebook.catalog_hash,
    )


def _usd(uusd: int | None) -> float | None:
    return None if uusd is None else uusd / 1e6
