"""The recorded world under other rules: the same tasks, slots and orders come, and what follows is decided again.

A choice decides when its slot comes free, so ends of work are made by a `WorkModel` and not taken from the record; only
work that ran when the window began ends as recorded. Everything of one moment is one step of the real router.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Step
from schemas.events import PolicyActivated, SlotFreed, SlotRetired
from schemas.input import Input, topic_of
from schemas.vocabulary import Millis, Mode, from_millis
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import MISTAKE, SlotwiseError
from streams.replay.recording import Occurrence, Recording
from streams.replay.work_model import Works
from streams.replay.world import BY, World


class ReplayRefused(SlotwiseError):
    """The recorded window cannot be replayed under these rules; the message says why."""

    exit_code = MISTAKE


class Continued(Struct, frozen=True):
    """A window as it would have gone on."""

    steps: list[Step]
    #: State at the end of the window.
    end: Router
    #: Events that the other rules refuse, which the record accepted.
    refused: tuple[str, ...]


def continued(
    recording: Recording, rulebook: Rulebook, work: Works, fleet: Mapping[str, int] | None = None
) -> Continued:
    """Play a window under a rulebook, and with a fleet of so many slots of each model in each pool.

    Raises:
        ReplayRefused: the rulebook cannot take over what there was at the window's begin.
    """
    away = {key: list(some) for key, some in recording.away.items()}
    for key, silent in recording.silent():
        away.setdefault(key, []).append(silent)
    world = World(beginning(recording, rulebook), work, away if fleet is None else None)
    for some in recording.occurrences:
        for one in some:
            if fleet is None or not is_of_a_slot(one):
                world.come(one)
    for one in recording.ends_of_running():
        world.come(one)
    if fleet is None:
        for one in recording.there:
            world.come(one)
    else:
        for pool in sorted({pool for pool, _ in recording.tasks}):
            equip(world, pool, fleet, recording.steps[0].now_ms)
    steps = list(world.advance(recording.steps[-1].now_ms))
    return Continued(steps, world.router, tuple(world.refused))


def beginning(recording: Recording, rulebook: Rulebook) -> Router:
    """Return a router of these rules in the state of the window's begin.

    Raises:
        ReplayRefused: the catalogue lacks what that state uses.
    """
    if recording.start is None:
        return Router(recording.partition, rulebook, mode="replay")
    lacking = sorted(recording.models_at_start - rulebook.models.keys())
    if lacking:
        raise ReplayRefused(
            f"The catalogue lacks {', '.join(lacking)}, which slots have when the window begins: keep the rows, or "
            "begin earlier."
        )
    return taking_over(recording.partition, rulebook, recording.start, mode="replay")


def taking_over(partition: int, rulebook: Rulebook, state: Iterable[bytes], *, mode: Mode) -> Router:
    """Return a router in the state of a snapshot that decides by this rulebook, whatever was activated there.

    Raises:
        ReplayRefused: the rulebook cannot take over what there is.
    """
    router = Router.restore(partition, rulebook, state, mode=mode)
    # Nothing that is made sends heartbeats: slots live until it is said that they fell silent.
    slots = [slot for pool in router.state.pools.values() for slot in pool.slots.values() if slot.ttl_ms is not None]
    router.apply(
        Step(
            partition=partition,
            seq=router.seq,
            now_ms=router.now_ms,
            policy=rulebook.policy_hash,
            catalog=rulebook.catalog_hash,
            slots=tuple(replace(slot, ttl_ms=None) for slot in slots),
        )
    )
    event = PolicyActivated(
        control_id=f"{BY}-begin",
        at=from_millis(router.now_ms),
        by=BY,
        policy=rulebook.policy_hash,
        catalog=rulebook.catalog_hash,
        policy_text=rulebook.policy_text,
        catalog_text=rulebook.catalog_text,
    )
    topic = topic_of(event)
    step = router.handle([Input(topic, router.position(topic) + 1, router.now_ms, event)])
    if step.rejected:
        raise ReplayRefused(f"The window cannot begin under these rules: {step.rejected[0].reason}")
    # What it would route at once stays as it is: it is decided with what comes next, and its work then has an end.
    router.apply(
        Step(
            partition=partition,
            seq=step.seq,
            now_ms=step.now_ms,
            policy=step.policy,
            catalog=step.catalog,
            inputs=step.inputs,
            controls=step.controls,
            activated=step.activated,
            percentiles=step.percentiles,
        )
    )
    return router


def equip(world: World, pool: str, fleet: Mapping[str, int], now_ms: Millis) -> None:
    """Give a pool so many slots of each model: those that are there stay as far as the fleet has them."""
    for one in _in_their_place(world.router, pool, fleet, now_ms):
        world.come(one)


def _in_their_place(router: Router, pool: str, fleet: Mapping[str, int], now_ms: Millis) -> Iterator[Occurrence]:
    """Keep as many of the slots that are there as the fleet has of their model, and add what lacks."""
    known = router.state.pools.get(pool)
    left = dict(fleet)
    for slot in sorted(known.slots.values(), key=lambda one: one.slot_id) if known is not None else ():
        if left.get(slot.model, 0) > 0 and slot.state != "lost" and not slot.retired:
            left[slot.model] -= 1
            continue
        control_id, at = f"{BY}-{pool}-{slot.slot_id}", from_millis(now_ms)
        yield Occurrence(now_ms, SlotRetired(control_id=control_id, at=at, by=BY, pool=pool, slot_id=slot.slot_id))
    for model, count in left.items():
        for number in range(1, count + 1):
            event = SlotFreed(slot_id=f"{BY}:{model}:{number}", pool=pool, at=from_millis(now_ms), model=model)
            yield Occurrence(now_ms, event)


def is_of_a_slot(occurrence: Occurrence) -> bool:
    """Whether a slot comes, comes back or leaves; the end of its work is none of these."""
    return isinstance(occurrence.event, SlotFreed) and occurrence.event.lease is None
