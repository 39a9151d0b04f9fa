"""A shadow with slots of its own: a world beside the live one, in which its choices have their consequences.

Another fleet cannot take the live fleet's moves as given: it lacks slots that were given work, and has others. So tasks
and orders come as they do live, and all else is decided and made here, as in a replay of a window. Work that the live
side does on the same model ends when it ends there, and takes as long; other work takes times that were fitted to what
had ended before. Like every shadow it is a fold of the journal: no clock, no randomness, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Final, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Decision, SlotRow, Step
from schemas.events import SlotFreed, SlotRetired, TaskPending
from schemas.input import Input
from schemas.shadow import Answer, DifferenceKind, ShadowDifference
from schemas.vocabulary import Millis, ReasonCode
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.core.step.activation import models_lacking
from streams.core.step.decision_ids import decision_id
from streams.estimate.service_time import TooFewOutcomes
from streams.replay.continued import equip, taking_over
from streams.replay.recording import Key, Occurrence, arrivals, orders
from streams.replay.work_model import Work, WorkModel
from streams.replay.work_seen import WorkSeen, work_kind
from streams.replay.world import World, renewals, report_of
from streams.shadow.answers import NOTHING, Answers, answer_before, answer_of, difference, kind_of
from streams.shadow.sums import Sums
from streams.shadow.twin import OtherRun, ShadowCannotFollow, lacks

_HEAD_VERSION: Final = 1
_encode = msgspec.msgpack.Encoder().encode


class Running(Struct, frozen=True):
    """Work that the live side does."""

    decision_id: str
    attempt: int
    kind: str
    model: str
    begun_ms: int
    slot_id: str
    lease: int


class Awaiting(Struct, frozen=True):
    """Work of the shadow that ends by what the live side says of the same work."""

    slot_id: str
    lease: int
    attempt: int
    begun_ms: int
    #: How long the lease was given for; None: it has no end.
    lease_ms: int | None


class Choices(Struct):
    """What each side has chosen first for a task, or how it ended there without a choice; None: nothing yet."""

    live: Answer | None = None
    shadow: Answer | None = None
    #: The reason last announced by the live side while it waits.
    waits: ReasonCode | None = None


class _Head(Struct, frozen=True, kw_only=True):
    v: int = _HEAD_VERSION
    run: str
    sums: Sums
    #: Number of the next step of the live journal.
    seq: int
    same_prices: bool
    #: To which times were fitted, and of tasks that are open here, how attempts ended live.
    fitted_to: list[WorkSeen]
    learned: list[WorkSeen]
    #: Pools that have their slots.
    pools: list[str]
    running: list[tuple[str, str, Running]]
    awaiting: list[tuple[str, str, Awaiting]]
    choices: list[tuple[str, str, Choices]]
    #: What is to come, with its place in the order.
    reports: list[tuple[int, Millis, SlotFreed]]
    retirements: list[tuple[int, Millis, SlotRetired]]


_decode_head = msgspec.msgpack.Decoder(_Head).decode


class OwnWorld:
    """The shadow of one partition's router, with a fleet of its own."""

    def __init__(
        self,
        router: Router,
        fleet: Mapping[str, int],
        fitted_to: Sequence[WorkSeen],
        *,
        same_prices: bool,
        seq: int,
        run: str,
        name: str,
    ) -> None:
        """`router` has the shadow's rules and a state to begin with; `seq` is the next step of the live journal.

        Raises:
            ShadowCannotFollow: too little work has ended to say how long work takes.
        """
        try:
            self._model = WorkModel(fitted_to, "fitted", same_prices=same_prices)
        except TooFewOutcomes as few:
            raise ShadowCannotFollow(
                f"{len(fitted_to)} pieces of work that ended are in the journal, too few to say how long work takes on "
                f"the slots of the shadow {name}: start it when more has ended, or without --fleet."
            ) from few
        for one in fitted_to:
            self._model.forget(one.pool, one.task_id)
        self._fitted_to = fitted_to
        self._same_prices = same_prices
        self._fleet = fleet
        self._run = run
        self._name = name
        self._world = World(router, self)
        self.sums = Sums()
        self.seq = seq
        self._pools: set[str] = set()
        self._running: dict[Key, Running] = {}
        self._awaiting: dict[Key, Awaiting] = {}
        self._choices: dict[Key, Choices] = {}

    @classmethod
    def beside(
        cls,
        live: Router,
        rulebook: Rulebook,
        fleet: Mapping[str, int],
        fitted_to: Sequence[WorkSeen],
        *,
        run: str,
        name: str,
    ) -> Self:
        """Return a shadow that begins where a live router is now, with so many slots of each model in each pool.

        Slots that are there stay as far as the fleet has them; work on the others ends before they leave.

        Raises:
            ShadowCannotFollow: its catalogue lacks models, or too little work has ended.
        """
        missing = {*models_lacking(live.state, rulebook), *(fleet.keys() - rulebook.models.keys())}
        if missing:
            raise lacks(name, sorted(missing))
        same_prices = live.rulebook.catalog_hash == rulebook.catalog_hash
        router = taking_over(live.state.number, rulebook, live.snapshot(), mode="shadow")
        own = cls(router, fleet, fitted_to, same_prices=same_prices, seq=live.seq, run=run, name=name)
        for pool_name, pool in sorted(live.state.pools.items()):
            for task_id, row in pool.tasks.items():
                key, status = (pool_name, task_id), row.status
                slot = pool.slots.get(status.slot_id or "")
                if status.state != "running":
                    own._choices[key] = Choices(waits=status.headline)
                elif slot is not None and slot.lease == status.lease:
                    own._running[key] = Running(
                        *(status.decision_id or "", status.attempt, work_kind(row.task), slot.model),
                        *(slot.since_ms, slot.slot_id, slot.lease),
                    )
                    own._awaiting[key] = Awaiting(
                        *(slot.slot_id, slot.lease, status.attempt, slot.since_ms),
                        None if slot.lease_expires_at_ms is None else slot.lease_expires_at_ms - slot.since_ms,
                    )
            if pool.tasks or pool.slots:
                own._equip(pool_name, live.now_ms)
        for one in fitted_to:
            if router.task(one.pool, one.task_id) is not None:
                own._model.learn(one)
        return own

    @property
    def changes(self) -> int:
        """Row changes so far, from which it follows when a snapshot is worth its cost."""
        return self._world.router.changes

    @property
    def router(self) -> Router:
        """The state that it decides by; read-only."""
        return self._world.router

    def take(self, step: Step, inputs: Sequence[Input] = ()) -> list[ShadowDifference]:
        """Take what came from without in a live step, go on until its time, and return which choices differ.

        `inputs` are not asked: what counts of them stands in the step.
        """
        del inputs
        now_ms, world = step.now_ms, self._world
        self._see_ends(step)
        self._see_renewals(step)
        for one in orders(step):
            world.come(one)
        for row in step.tasks:
            self._equip(row.task.pool, now_ms)
            self._choices[row.task.pool, row.task.task_id] = Choices(waits=row.status.headline)
        for one in arrivals(step):
            world.come(one)
        self._see_begins(step)
        own: list[Decision] = []
        for made in world.follow(now_ms):
            own += made.decisions
            for gone in made.finished:
                if world.router.task(gone.pool, gone.task_id) is None:
                    self._model.forget(gone.pool, gone.task_id)
                    self._awaiting.pop((gone.pool, gone.task_id), None)
        world.refused.clear()
        self._sum(step, own)
        self.seq = step.seq + 1
        return list(self._compare(step, own))

    def work(self, task: TaskPending, decision: Decision) -> Work | None:
        """Return the work that a decision begins; None: the live side does the same, and its end is awaited."""
        key = (task.pool, task.task_id)
        live = self._running.get(key)
        if live is None or (live.model, live.attempt) != (decision.chosen_model, decision.attempt):
            return self._model.work(task, decision)
        begun_ms, ends_ms = decision.decided_at_ms, decision.lease_expires_at_ms
        self._awaiting[key] = Awaiting(
            *(decision.chosen_slot_id or "", decision.lease or 0, decision.attempt, begun_ms),
            None if ends_ms is None else ends_ms - begun_ms,
        )
        return None

    def snapshot(self) -> Iterator[bytes]:
        """Return the state as chunks, unchanged by later steps."""
        coming = list(enumerate(self._world.coming()))
        tasks = ((name, task_id) for name, pool in self.router.state.pools.items() for task_id in pool.tasks)
        head = _Head(
            run=self._run,
            sums=self.sums,
            seq=self.seq,
            same_prices=self._same_prices,
            fitted_to=list(self._fitted_to),
            learned=[one for key in sorted(tasks) for one in self._model.learned(*key)],
            pools=sorted(self._pools),
            running=[(*key, one) for key, one in sorted(self._running.items())],
            awaiting=[(*key, one) for key, one in sorted(self._awaiting.items())],
            choices=[(*key, one) for key, one in sorted(self._choices.items())],
            reports=[(n, one.at_ms, one.event) for n, one in coming if isinstance(one.event, SlotFreed)],
            retirements=[(n, one.at_ms, one.event) for n, one in coming if isinstance(one.event, SlotRetired)],
        )
        return chain([_encode(head)], self.router.snapshot())

    @classmethod
    def restore(
        cls,
        partition: int,
        rulebook: Rulebook,
        fleet: Mapping[str, int],
        chunks: Iterable[bytes],
        *,
        run: str,
        name: str,
    ) -> Self:
        """Return a shadow with the state of a snapshot.

        Raises:
            OtherRun: the snapshot is of another run.
        """
        rest = iter(chunks)
        head = _decode_head(next(rest))
        if head.run != run:
            raise OtherRun(head.run)
        router = Router.restore(partition, rulebook, rest, mode="shadow")
        own = cls(router, fleet, head.fitted_to, same_prices=head.same_prices, seq=head.seq, run=run, name=name)
        own.sums = head.sums
        own._pools = set(head.pools)
        for one in head.learned:
            own._model.learn(one)
        own._running = {(pool, task): live for pool, task, live in head.running}
        own._awaiting = {(pool, task): awaited for pool, task, awaited in head.awaiting}
        own._choices = {(pool, task): choices for pool, task, choices in head.choices}
        coming = {n: Occurrence(at_ms, report) for n, at_ms, report in head.reports}
        coming |= {n: Occurrence(at_ms, retirement) for n, at_ms, retirement in head.retirements}
        for n in sorted(coming):
            own._world.come(coming[n])
        return own

    # What the live side did ---------------------------------------------------------------------------------------

    def _see_ends(self, step: Step) -> None:
        """Have work end that the live side does too; of what it did otherwise, take how long that took."""
        for work in step.work:
            key = (work.pool, work.outcome.task_id)
            live = self._running.get(key)
            if live is None or live.decision_id != work.decision_id:
                continue
            del self._running[key]
            taken_ms = max(1, step.now_ms - live.begun_ms)
            seen = WorkSeen(*key, live.attempt, live.kind, work.model, taken_ms, work.outcome)
            if self.router.task(*key) is not None:
                self._model.learn(seen)
            awaited = self._awaiting.pop(key, None)
            if awaited is not None and awaited.attempt == live.attempt:
                self._end(key, awaited, seen, step.now_ms)
        # Work that ended without a report ends so here too: its lease is not renewed.
        for changed in step.tasks_changed:
            if changed.status.state != "running":
                self._running.pop((changed.pool, changed.task_id), None)
        for gone in step.finished:
            self._running.pop((gone.pool, gone.task_id), None)

    def _end(self, key: Key, awaited: Awaiting, seen: WorkSeen, now_ms: Millis) -> None:
        end_ms = max(now_ms, awaited.begun_ms + seen.taken_ms)
        slot = self._slot(key[0], awaited)
        if slot is None:
            return
        if slot.lease_expires_at_ms is not None and awaited.lease_ms is not None:
            given_ms = slot.lease_expires_at_ms - awaited.lease_ms
            for at_ms in renewals(given_ms, awaited.lease_ms, slot.renewals_left, end_ms):
                self._world.come(report_of(key[0], slot.slot_id, slot.lease, max(now_ms, at_ms)))
        outcome = self._model.as_recorded(seen, slot.model)
        self._world.come(report_of(key[0], slot.slot_id, slot.lease, end_ms, outcome))

    def _see_renewals(self, step: Step) -> None:
        """Have a lease renewed whose work the live side does too, and whose lease it renews."""
        for row in step.slots:
            key = (row.pool, row.task_id or "")
            live, awaited = self._running.get(key), self._awaiting.get(key)
            if (
                live is not None
                and awaited is not None
                and (row.state, row.slot_id, row.lease) == ("leased", live.slot_id, live.lease)
                and self._slot(row.pool, awaited) is not None
            ):
                self._world.come(report_of(row.pool, awaited.slot_id, awaited.lease, step.now_ms))

    def _see_begins(self, step: Step) -> None:
        for one in step.decisions:
            if one.outcome == "routed":
                self._running[one.pool, one.task_id] = Running(
                    *(one.decision_id, one.attempt, work_kind(one), one.chosen_model or ""),
                    *(one.decided_at_ms, one.chosen_slot_id or "", one.lease or 0),
                )

    def _slot(self, pool: str, awaited: Awaiting) -> SlotRow | None:
        """Return the slot of awaited work, if that is still its lease."""
        known = self.router.state.pools.get(pool)
        slot = known.slots.get(awaited.slot_id) if known is not None else None
        return slot if slot is not None and (slot.state, slot.lease) == ("leased", awaited.lease) else None

    def _equip(self, pool: str, now_ms: Millis) -> None:
        """Give a pool its slots."""
        if pool not in self._pools:
            self._pools.add(pool)
            equip(self._world, pool, self._fleet, now_ms)

    # What differs -------------------------------------------------------------------------------------------------

    def _sum(self, step: Step, own: Sequence[Decision]) -> None:
        sums = self.sums
        for side, decisions in ((sums.live, step.decisions), (sums.shadow, own)):
            for one in decisions:
                if one.outcome == "routed":
                    side.add(one)
        sums.steps += 1
        sums.decisions += len(step.decisions)
        sums.first_ms = step.now_ms if sums.first_ms is None else sums.first_ms
        sums.last_ms = step.now_ms

    def _compare(self, step: Step, own: Sequence[Decision]) -> Iterator[ShadowDifference]:
        """Yield the tasks about which the two have now chosen differently, or only one of them has chosen."""
        concerned: dict[Key, Decision] = {}
        for is_live, decisions in ((True, step.decisions), (False, own)):
            for one in decisions:
                key = (one.pool, one.task_id)
                choices = self._choices.get(key)
                if choices is None:
                    continue
                if one.outcome == "waiting":
                    choices.waits = one.reason_code if is_live else choices.waits
                elif is_live and choices.live is None:
                    choices.live, concerned[key] = answer_of(one), one
                elif not is_live and choices.shadow is None:
                    choices.shadow, concerned[key] = answer_of(one), one
        for key, decision in concerned.items():
            choices = self._choices[key]
            if choices.shadow is None and self.router.task(*key) is None:
                # These rules refuse the task.
                choices.shadow = NOTHING
            kind = _kind(choices)
            if choices.live is not None and choices.shadow is not None:
                del self._choices[key]
            if kind is not None:
                self.sums.count(kind)
                yield self._difference(step, decision, kind, choices)

    def _difference(self, step: Step, decision: Decision, kind: DifferenceKind, choices: Choices) -> ShadowDifference:
        key = (decision.pool, decision.task_id)
        waits = Answer(outcome="waiting", reason_code=choices.waits)
        answers = Answers(
            live=choices.live if choices.live is not None else waits,
            shadow=choices.shadow if choices.shadow is not None else answer_before(self.router.task(*key)),
        )
        named = {"run": self._run, "name": self._name}
        id_ = decision_id(decision.pool, step.seq, decision.task_id)
        return difference(step, decision, kind, answers, difference_id=id_, rulebook=self.router.rulebook, **named)


def _kind(choices: Choices) -> DifferenceKind | None:
    """Return in what the choices differ so far; None: in nothing, or one side has not chosen and the other no slot."""
    if choices.live is None or choices.shadow is None:
        one = choices.live or choices.shadow
        if one is None or one.outcome != "routed":
            return None
        return "routes_instead" if choices.live is None else "waits_instead"
    return kind_of(_of_any_slot(choices.live), _of_any_slot(choices.shadow))


def _of_any_slot(answer: Answer) -> Answer:
    """Return an answer without what differs because the slots do."""
    return replace(answer, slot_id=None, lease_expires_at_ms=None)
