"""A shadow of one partition: the same state machine with a rulebook of its own, beside the live journal.

For each live step it decides about the step's inputs by its own rules, compares, and then takes the fleet's real moves
as given, so that one difference does not lead to others. It is a fold of journal and inputs: begun at the same step and
fed with the same records it finds the same differences, however often it is stopped. No clock, no randomness, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Final, Self

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from schemas.decision import Decision, Step
from schemas.events import PolicyActivated, Tick
from schemas.input import Input
from schemas.shadow import ShadowDifference
from streams.core.policy.rulebook import Rulebook
from streams.core.router import Router
from streams.core.step.activation import models_lacking
from streams.errors import MISTAKE, SlotwiseError
from streams.shadow.answers import Answers, answer_before, answer_of, difference, kind_of, same
from streams.shadow.own_step import own_step
from streams.shadow.sums import Sums

_HEAD_VERSION: Final = 1
_encode = msgspec.msgpack.Encoder().encode


class ShadowCannotFollow(SlotwiseError):
    """The shadow's rules cannot decide about this fleet; the message says what they lack."""

    exit_code = MISTAKE


class OtherRun(Exception):
    """A snapshot is of another run, of other rules."""


class _Head(Struct, frozen=True, kw_only=True):
    v: int = _HEAD_VERSION
    run: str
    sums: Sums
    #: Differences about tasks that wait, as they were last reported.
    open: dict[str, dict[str, Answers]]
    routed: list[tuple[str, str]]


_decode_head = msgspec.msgpack.Decoder(_Head).decode


class Twin:
    """The shadow of one partition's router."""

    def __init__(self, router: Router, *, run: str, name: str) -> None:
        """`router` has the shadow's rules and a state to begin with; `run` and `name` stand in each difference."""
        self._router = router
        self._run = run
        self._name = name
        self.sums = Sums()
        #: By pool and task.
        self._open: dict[tuple[str, str], Answers] = {}
        #: Tasks that wait, and that the shadow would have routed before.
        self._routed: set[tuple[str, str]] = set()

    @classmethod
    def beside(cls, live: Router, rulebook: Rulebook, *, run: str, name: str) -> Self:
        """Return a shadow that begins where a live router is now.

        Raises:
            ShadowCannotFollow: its catalogue lacks models that slots or tasks use.
        """
        if missing := models_lacking(live.state, rulebook):
            raise lacks(name, missing)
        partition, own, lives = live.state.number, rulebook.policy, live.rulebook.policy
        # First with the live state as it is, then without the activated policy, so that its own rules are in force.
        state = Router.restore(partition, rulebook, live.snapshot(), mode="shadow").state
        state.activated = None
        if (own.ev, own.lift, own.premium) != (lives.ev, lives.lift, lives.premium):
            for pool in state.pools.values():
                # They are percentiles of another policy: its own come with the next EV.
                pool.percentiles = None
        return cls(Router.restore(partition, rulebook, state.snapshot(), mode="shadow"), run=run, name=name)

    @property
    def seq(self) -> int:
        """Number of the next step."""
        return self._router.seq

    @property
    def changes(self) -> int:
        """Row changes so far, from which it follows when a snapshot is worth its cost."""
        return self._router.changes

    @property
    def router(self) -> Router:
        """The state that it decides by; read-only."""
        return self._router

    def take(self, step: Step, inputs: Sequence[Input]) -> list[ShadowDifference]:
        """Decide about the inputs of a live step, take the step, and return what differs.

        Raises:
            ShadowCannotFollow: the step names a model that the shadow's catalogue lacks.
            StepOutOfOrder: it is not the next one.
        """
        router, sums = self._router, self.sums
        shadow = router.handle([_without_activation(item) for item in inputs])
        self._require_models(step)
        found: list[ShadowDifference] = []
        if shadow.decisions == step.decisions and not (self._open or self._routed):
            for decision in step.decisions:
                if decision.outcome == "routed":
                    sums.live.add(decision)
                    sums.shadow.add(decision)
        else:
            found = list(self._compare(step, shadow))
        sums.steps += 1
        sums.decisions += len(step.decisions)
        sums.first_ms = step.now_ms if sums.first_ms is None else sums.first_ms
        sums.last_ms = step.now_ms
        router.apply(own_step(router, step, shadow))
        if self._open or self._routed:
            self._close(step)
        return found

    def snapshot(self) -> Iterator[bytes]:
        """Return the state as chunks, unchanged by later steps."""
        opened: dict[str, dict[str, Answers]] = {}
        for (pool, task_id), one in self._open.items():
            opened.setdefault(pool, {})[task_id] = one
        head = _encode(_Head(run=self._run, sums=self.sums, open=opened, routed=sorted(self._routed)))
        return chain([head], self._router.snapshot())

    @classmethod
    def restore(cls, partition: int, rulebook: Rulebook, chunks: Iterable[bytes], *, run: str, name: str) -> Self:
        """Return a shadow with the state of a snapshot.

        Raises:
            OtherRun: the snapshot is of another run.
        """
        rest = iter(chunks)
        head = _decode_head(next(rest))
        if head.run != run:
            raise OtherRun(head.run)
        twin = cls(Router.restore(partition, rulebook, rest, mode="shadow"), run=run, name=name)
        twin.sums = head.sums
        twin._open = {(pool, task_id): one for pool, rows in head.open.items() for task_id, one in rows.items()}
        twin._routed = set(head.routed)
        return twin

    def _compare(self, step: Step, shadow: Step) -> Iterator[ShadowDifference]:
        lives = {one.decision_id: one for one in step.decisions}
        shadows = {one.decision_id: one for one in shadow.decisions}
        # One of the two is there; where both are, they have the same task, attempt and EV.
        for key, decision in (lives | shadows).items():
            live, own = lives.get(key), shadows.get(key)
            place = (decision.pool, decision.task_id)
            self._sum(place, live, own)
            before = self._open.get(place)
            unchanged = answer_before(self._router.task(*place))
            theirs = answer_of(live) if live is not None else before.live if before is not None else unchanged
            mine = answer_of(own) if own is not None else unchanged
            kind = kind_of(theirs, mine)
            if kind is None:
                self._open.pop(place, None)
                continue
            answers = self._open[place] = Answers(theirs, mine)
            if before is None or not (same(before.live, theirs) and same(before.shadow, mine)):
                self.sums.count(kind)
                named = {"difference_id": key, "run": self._run, "name": self._name}
                yield difference(step, decision, kind, answers, rulebook=self._router.rulebook, **named)

    def _sum(self, place: tuple[str, str], live: Decision | None, own: Decision | None) -> None:
        if live is not None and live.outcome == "routed":
            self.sums.live.add(live)
        if own is not None and own.outcome == "routed" and place not in self._routed:
            self.sums.shadow.add(own)
            self._routed.add(place)

    def _close(self, step: Step) -> None:
        """Forget the tasks of this step that wait no more."""
        concerned = chain(
            ((one.pool, one.task_id) for one in step.decisions),
            ((row.pool, row.task_id) for row in step.tasks_changed),
            ((row.pool, row.task_id) for row in step.finished),
        )
        for place in concerned:
            row = self._router.task(*place)
            if row is None or row.status.state != "waiting":
                self._open.pop(place, None)
                self._routed.discard(place)

    def _require_models(self, step: Step) -> None:
        models = self._router.rulebook.models
        used = {slot.model for slot in step.slots}
        used.update(row.task.floor_model for row in step.tasks if row.task.floor_model is not None)
        if missing := sorted(used - models.keys()):
            raise lacks(self._name, missing)


def _without_activation(item: Input) -> Input:
    """Return the input as the shadow sees it: it keeps its own rules, whatever is activated."""
    event = item.event
    if not isinstance(event, PolicyActivated):
        return item
    return replace(item, event=Tick(control_id=event.control_id, at=event.at, by=event.by))


def lacks(name: str, missing: Sequence[str]) -> ShadowCannotFollow:
    """Say that the shadow's catalogue has no such models."""
    return ShadowCannotFollow(
        f"The catalogue of the shadow {name} lacks {', '.join(missing)}, which slots or tasks of the live fleet use: "
        "start it with a catalogue that has them."
    )
