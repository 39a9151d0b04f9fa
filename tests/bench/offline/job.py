"""The work of the simulation: a recorded call, what its producer says of it, and when it comes.

Traces hold times and lengths and nothing else. What a task is worth and asks for is drawn here, with a fixed seed, from
the distributions stated below; every rule gets the same jobs. Only the aider calls bring attributes of their own.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any, Final

from msgspec import Struct, structs

from schemas.events import TaskPending
from schemas.vocabulary import Dimension, from_millis
from streams.core.policy.ev import ingredients
from streams.sample.work import tasks
from tests.bench.offline.place import MODELS, TIER_MIN, Place
from tests.bench.offline.slotwise import POOL
from tests.bench.offline.trace import SAMPLE_CALLS, Call
from tests.support.builders import START_MS

#: A task is as many calls like the recorded one as make the mean task last this long on the fleet's average slot:
#: agents' tasks run for minutes, and the policy's clocks (ageing, the hour of the percentiles) are set for that.
TASK_S_MEAN: Final = 60.0

#: EV: lognormal, so that the top tenth holds nearly two fifths of all value; drawn apart from bars and lengths.
EV_MU: Final = 1.0
EV_SIGMA: Final = 1.0
#: Priority: (value, weight).
PRIORITIES: Final = ((30, 10), (50, 70), (70, 15), (90, 5))
#: What work asks for, by the lowest tier of the mixed fleet that can do it: (bars, kind of work, weight).
SHAPES: Final[dict[int, tuple[tuple[dict[Dimension, int], str, int], ...]]] = {
    1: (({}, "docs", 35), ({"coding": 4}, "code", 30), ({"analysis": 5}, "summarize", 13)),
    2: (({"coding": 7, "reasoning": 6}, "refactor", 12), ({"coding": 8, "safety": 9}, "security", 6)),
    3: (({"reasoning": 9}, "architecture", 4),),
}


class Job(Struct, frozen=True, eq=False):
    """One task, with what only the simulation knows of it."""

    at_ms: int
    task: TaskPending
    #: Of all its calls.
    input_tokens: float
    output_tokens: float
    ev: float | None
    #: Models of the fleet that meet all its bars and are of its class's tier: every rule keeps to these.
    able: frozenset[str]

    @property
    def tier(self) -> int:
        """The lowest tier that can do it."""
        return min(MODELS[model].tier for model in self.able)

    def service_ms(self, place: Place) -> int:
        """How long it takes there."""
        return max(1, round(1000 * self.output_tokens / place.tps))

    def usd(self, place: Place) -> float:
        """What it costs there."""
        dear = place.model
        assert dear.input_usd_per_mtok is not None
        assert dear.output_usd_per_mtok is not None
        return (self.input_tokens * dear.input_usd_per_mtok + self.output_tokens * dear.output_usd_per_mtok) / 1e6


def jobs(calls: Sequence[Call], places: Sequence[Place], *, seed: int, load: float) -> list[Job]:
    """What these calls ask of a fleet, in the order of arrival, at a pace that keeps it so busy."""
    chance = random.Random(seed)
    speed = sum(place.tps for place in places) / len(places)
    times = TASK_S_MEAN * speed / (sum(call.output_tokens for call in calls) / len(calls))
    models = {place.model.id for place in places}
    made = [_job(number, call, chance, times, models) for number, call in enumerate(calls)]
    return paced(made, places, load)


def paced(made: Sequence[Job], places: Sequence[Place], load: float) -> list[Job]:
    """The same jobs, their arrivals stretched so that the tightest tier has so much to do, 1.0 being all it can.

    The tightest: where the work that needs at least that tier is most of what such slots can do.
    """
    busiest_s = max(
        sum(job.output_tokens for job in made if job.tier >= tier)
        / max(1e-9, sum(place.tps for place in places if place.model.tier >= tier))
        for tier in (1, 2, 3)
    )
    stretch = 1000 * busiest_s / load / max(1, made[-1].at_ms)
    return [_at(job, round(job.at_ms * stretch)) for job in made]


def able(task: TaskPending, models: Iterable[str]) -> frozenset[str]:
    """The models that meet every bar, and the tier of the class that the producer named."""
    tier_min = TIER_MIN[task.complexity] if task.complexity is not None else 1
    return frozenset(
        name
        for name in models
        if MODELS[name].tier >= tier_min
        and all(MODELS[name].ratings[what] >= bar for what, bar in task.requires.items())
    )


def _job(number: int, call: Call, chance: random.Random, times: float, models: Iterable[str]) -> Job:
    if call.sample is not None:
        task = structs.replace(_sample()[call.sample], pool=POOL)
    else:
        task = _invented(number, call, chance)
    return Job(
        at_ms=round(1000 * call.at_s),
        task=task,
        input_tokens=times * call.input_tokens,
        output_tokens=times * call.output_tokens,
        ev=task.ev if task.ev is not None else ingredients(task),
        able=able(task, models),
    )


def _invented(number: int, call: Call, chance: random.Random) -> TaskPending:
    tiers = (call.tier,) if call.tier is not None else tuple(SHAPES)
    shapes = [shape for tier in tiers for shape in SHAPES[tier]]
    requires, kind, _ = chance.choices(shapes, [weight for *_, weight in shapes])[0]
    values, weights = zip(*PRIORITIES, strict=True)
    return TaskPending(
        task_id=f"job-{number}",
        pool=POOL,
        at=from_millis(START_MS),
        requires=requires,
        priority=chance.choices(values, weights)[0],
        ev=round(chance.lognormvariate(EV_MU, EV_SIGMA), 6),
        task_type=kind,
        input_tokens=call.input_tokens,
    )


@cache
def _sample() -> tuple[TaskPending, ...]:
    # How long the answer will be is known to nobody beforehand.
    return tuple(structs.replace(task.event, output_tokens=None) for task in tasks("offline", SAMPLE_CALLS))


def _at(job: Job, at_ms: int) -> Job:
    fields: dict[str, Any] = {"at": from_millis(START_MS + at_ms)}
    return structs.replace(job, at_ms=at_ms, task=structs.replace(job.task, **fields))
