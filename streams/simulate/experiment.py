"""An experiment: the same work for every rule, on every fleet and at every load, several times over.

A cell is one rule, fleet and pace; it is run once a seed. Everything a run needs is in the plan, the cell and the
seed, so that runs can be shared among processes and come out the same whichever makes them.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from random import Random
from typing import Final

from msgspec import Struct, structs

from schemas.vocabulary import Tier
from streams.core.policy.rulebook import Leases, Rulebook, load_rulebook
from streams.estimate.nearest_rank import nearest_rank
from streams.simulate.baselines import BASELINES, by_text
from streams.simulate.fleet import Fleet, fleet
from streams.simulate.job import Job, jobs, on, sent
from streams.simulate.oracle import ev_bound
from streams.simulate.recording import Recording
from streams.simulate.run_stats import RunStats, run_stats
from streams.simulate.slotwise import Slotwise
from streams.simulate.world import NeverServed, Scheduler, ServedJob, played

#: The real router, by the cell's policy and catalogue.
OURS: Final = "slotwise"
#: LiteLLM's complexity router, where it has read the tasks' titles.
LITELLM: Final = "litellm"
ORACLE: Final = "oracle"
#: Every rule, in the order in which people read them.
RULES: Final = (OURS, *(name for name in BASELINES if name != ORACLE), LITELLM, ORACLE)
#: Longer than any work here: how a router finds slots that were lost is not the question.
_LEASE_S: Final = 1e6


class Book(Struct, frozen=True):
    """A policy with a catalogue: their texts, and how they are called in tables."""

    name: str
    catalog_text: str
    policy_text: str


class Pace(Struct, frozen=True):
    """How dense arrivals are: one of the two, or neither, which is as recorded."""

    #: Of what the tightest tier of the plan's first fleet can do.
    load: float | None = None
    per_h: float | None = None

    @property
    def name(self) -> str:
        """As people say it."""
        if self.load is not None:
            return f"load {self.load:g}"
        return "as recorded" if self.per_h is None else f"{self.per_h:g} tasks/h"


class Plan(Struct, frozen=True, kw_only=True):
    """What all cells share."""

    recording: Recording
    books: tuple[Book, ...]
    #: Slots by model; loads are of the first one, and so is the length of a task made of requests.
    fleets: tuple[Mapping[str, int], ...]
    seeds: int
    #: Tasks of a run, at most.
    tasks: int
    #: Instead of the recording's own; see `Recording.task_s`.
    task_s: float | None = None
    #: By title: the tier that LiteLLM's router names; empty: it was not asked.
    tiers: Mapping[str, Tier] = {}


class Cell(Struct, frozen=True, kw_only=True):
    """One rule on one fleet at one pace; `book` and `fleet` are places in the plan."""

    rule: str
    book: int
    fleet: int
    pace: Pace


class Run(Struct, frozen=True, kw_only=True):
    """What one cell came to with one seed."""

    stats: RunStats
    #: Seconds: the shortest wait, and the one that each further hundredth of the tasks does not exceed.
    waits_s: tuple[float, ...]
    tasks: int
    #: Tasks that no slot of the fleet ever took under this rule.
    unserved: int
    #: EV an hour that no rule can exceed; only with the oracle.
    ev_per_h_bound: float | None = None


class Bench:
    """Makes the runs of a plan. It remembers the work of the last seeds and paces, which cells share."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._books = [lasting(load_rulebook(one.catalog_text, one.policy_text)) for one in plan.books]
        self._work = functools.lru_cache(maxsize=4)(self._make)

    def run(self, cell: Cell, seed: int) -> Run:
        """Play one cell with one seed.

        Raises:
            FleetError: a model cannot be simulated, or nothing of the fleet can do one of the tasks.
            NeverServed: the rule serves no task at all.
            EventRefused: the router refuses a recorded task under this catalogue.
        """
        work, slots, served = self._played(cell, seed)
        if not served:
            raise NeverServed(f"{cell.rule} serves none of the tasks on this fleet: it has no slot that it would use.")
        until_ms = work[-1].at_ms
        bound = None
        if cell.rule == ORACLE:
            bound = ev_bound(work, slots, until_ms) / (max(1, until_ms) / 3_600_000)
        return Run(
            stats=run_stats(served),
            waits_s=_waits(served),
            tasks=len(work),
            unserved=len(work) - len(served),
            ev_per_h_bound=bound,
        )

    def served(self, cell: Cell, seed: int) -> list[ServedJob]:
        """Return every job that was done, in the order of start."""
        return self._played(cell, seed)[-1]

    def _played(self, cell: Cell, seed: int) -> tuple[Sequence[Job], Fleet, list[ServedJob]]:
        book = self._books[cell.book]
        slots = fleet(self.plan.fleets[cell.fleet], book.models)
        work = on(self._work(seed, cell.pace), slots, book)
        return work, slots, played(work, slots, self._scheduler(cell.rule, book))

    def _scheduler(self, rule: str, book: Rulebook) -> Scheduler:
        if rule == OURS:
            return Slotwise(book)
        return by_text(self.plan.tiers) if rule == LITELLM else BASELINES[rule]()

    def _make(self, seed: int, pace: Pace) -> Sequence[Job]:
        plan, book = self.plan, self._books[0]
        first = fleet(plan.fleets[0], book.models)
        calls = plan.recording.as_recorded(plan.tasks) if plan.seeds == 1 else plan.recording.run(seed, plan.tasks)
        made = jobs(
            *(calls, first, book),
            chance=Random(seed),  # noqa: S311 -- a simulation, no secret
            load=pace.load,
            task_s=plan.task_s if plan.task_s is not None else plan.recording.task_s,
        )
        return sent(made, pace.per_h) if pace.per_h is not None else made


def lasting(book: Rulebook) -> Rulebook:
    """The same rules with leases that never run out: nothing in a simulation renews them."""
    return Rulebook(book.catalog, structs.replace(book.policy, leases=Leases(default_s=_LEASE_S)))


def _waits(served: Sequence[ServedJob]) -> tuple[float, ...]:
    """The shortest wait, and each percentile."""
    waited = sorted(one.wait_s for one in served)
    return waited[0], *(nearest_rank(waited, percent) for percent in range(1, 101))
