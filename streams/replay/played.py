"""The journal that events leave when a router decides about them, in a world whose ends of work are made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from schemas.decision import Decision, Step
from schemas.events import Outcome, TaskPending
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.errors import MISTAKE, SlotwiseError
from streams.estimate.service_time import OBSERVATIONS_MIN, TooFewOutcomes
from streams.replay.continued import ReplayRefused, equip, is_of_a_slot
from streams.replay.event_lines import Events
from streams.replay.recording import Occurrence, Recording
from streams.replay.what_if import Basis, times_error
from streams.replay.work_model import Work, WorkModel, Works
from streams.replay.world import World


class CatalogWork:
    """Work takes as long as its answer at the catalogue's speed, and none fails."""

    def __init__(self, rulebook: Rulebook) -> None:
        self._rulebook = rulebook

    def work(self, task: TaskPending, decision: Decision) -> Work:
        """Return the work that a decision begins.

        Raises:
            ReplayRefused: the catalogue has no speed of the model.
        """
        model = self._rulebook.models[decision.chosen_model or ""]
        if model.speed_tps is None:
            raise ReplayRefused(
                f"The catalogue has no speed_tps of {decision.chosen_model}, and the events say of too little work how "
                "long it took: write the speed into the catalogue."
            )
        tokens = self._rulebook.output_tokens(task, decision.complexity, model)
        outcome = Outcome(task_id=task.task_id, status="success", input_tokens=task.input_tokens, output_tokens=tokens)
        return Work(max(1, round(1000 * tokens / model.speed_tps)), outcome)


class NoSlots(SlotwiseError):
    """Events announce no slots, and no fleet is named."""

    exit_code = MISTAKE


def works_of(events: Events, configured: Rulebook, rulebook: Rulebook) -> WorkModel | CatalogWork:
    """Say how long the work of events takes under a rulebook: by their own outcomes, else by the catalogue's speeds."""
    try:
        return WorkModel(events.ended, "fitted", same_prices=configured.catalog_hash == rulebook.catalog_hash)
    except TooFewOutcomes:
        return CatalogWork(rulebook)


def basis_of(events: Events, configured: Rulebook, rulebook: Rulebook) -> Basis:
    """Say how long the work of events takes under a rulebook, with the error, and what that takes for granted."""
    hashes = f"{configured.policy_hash}/{configured.catalog_hash}"
    notes = [f"The events have no choices: recorded is what the configured rules make of them ({hashes})."]
    if events.unannounced:
        notes.append(f"{events.unannounced:,} reports are of slots that no line announces, and are left out.")
    work = works_of(events, configured, rulebook)
    if isinstance(work, CatalogWork):
        few = (
            f"{len(events.ended):,} outcomes say how long their work took (latency_s), and {OBSERVATIONS_MIN} are the "
            "least to fit times to."
        )
        notes.append(f"Work takes as long as its answer at the catalogue's speed, and none fails: {few}")
        return Basis(work=work, models=set(rulebook.models), times="catalogue", times_error=None, notes=notes)
    notes.append(
        "Work takes what its outcome says (latency_s) on its own model; on another one as long as such work does "
        "there, times what it took more or less than such work on its own. Work without an outcome takes as long as "
        "such work did. Whether it fails follows from the failure rates of the models."
    )
    error = times_error(events.ended)
    return Basis(work=work, models=work.models, times="fitted", times_error=error, notes=notes)


def recording_of(
    events: Events,
    configured: Rulebook,
    fleet: Mapping[str, int] | None,
    *,
    from_ms: int,
    to_ms: int,
) -> Recording:
    """Return the recording that events make under the configured rules, on the slots that come or on a fleet.

    Raises:
        NoSlots: no slot comes, and no fleet is named.
        ReplayRefused: how long work takes is not known.
    """
    if not events.has_slots and fleet is None:
        raise NoSlots("No line announces a slot: add the slots' reports with another --events, or name --fleet.")
    recording = Recording(0, configured, from_ms=from_ms, to_ms=to_ms)
    work = works_of(events, configured, configured)
    for step in played(events.occurrences, configured, work, None if events.has_slots else fleet):
        recording.add(step)
    return recording


def played(
    occurrences: Sequence[Occurrence], rulebook: Rulebook, work: Works, fleet: Mapping[str, int] | None = None
) -> Iterator[Step]:
    """Decide about events in the order of time, and yield the steps until no work runs any more.

    `fleet`: slots by model that each pool has from the begin, in place of those that are announced.
    """
    world = World(Router(0, rulebook), work)
    if fleet is not None:
        pools = {one.event.pool for one in occurrences if isinstance(one.event, TaskPending)}
        for pool in sorted(pools):
            equip(world, pool, fleet, occurrences[0].at_ms)
    for one in occurrences:
        if fleet is None or not is_of_a_slot(one):
            world.come(one)
    yield from world.advance(occurrences[-1].at_ms)
    while (next_ms := _next_ms(world)) is not None:
        yield from world.advance(next_ms)


def _next_ms(world: World) -> int | None:
    """Return when something happens to a task that is not merely waiting; None: nothing will."""
    moments = [int(world.next_ms)] if world.next_ms is not None else []
    rows = [row for pool in world.router.state.pools.values() for row in pool.tasks.values()]
    if not moments and all(row.status.state == "waiting" for row in rows):
        return None
    due_ms = world.router.due_ms()
    if due_ms is not None:
        moments.append(max(int(due_ms), world.router.now_ms + 1))
    return min(moments, default=None)
