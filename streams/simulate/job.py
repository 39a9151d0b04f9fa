"""The work of a simulation: a recorded call, what its producer says of it, and when it arrives.

Traces hold times and lengths and little else. What a task is worth and requires is drawn from the distributions stated
below, with the generator that the caller gives. Calls that bring a task of their own keep it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from random import Random
from typing import Any, Final

from msgspec import Struct, structs

from schemas.events import TaskPending
from schemas.vocabulary import Dimension, Tier, from_millis, to_millis
from streams.core.policy.ev import ingredients
from streams.core.policy.rulebook import Rulebook
from streams.simulate.fleet import Fleet, FleetError, Slot
from streams.simulate.trace import Call

#: Virtual time 0 in milliseconds since the epoch: 2026-11-21T10:00:00.000Z.
EPOCH_MS: Final = 1_795_255_200_000
POOL: Final = "offline"

#: A task is as many calls like the recorded one as make the mean task last this long on the fleet's average slot:
#: agents' tasks run for minutes, and the policy's clocks (ageing, the hour of the percentiles) are set for that.
TASK_S_MEAN: Final = 60.0

#: EV: lognormal, so that the top tenth holds nearly two fifths of all value; independent of requirements and lengths.
EV_MU: Final = 1.0
EV_SIGMA: Final = 1.0
#: Priority: (value, weight).
PRIORITIES: Final = ((30, 10), (50, 70), (70, 15), (90, 5))
#: What work requires, by the lowest tier that it is meant for: (requirements, task type, weight).
SHAPES: Final[dict[int, tuple[tuple[dict[Dimension, int], str, int], ...]]] = {
    1: (({}, "docs", 35), ({"coding": 4}, "code", 30), ({"analysis": 5}, "summarize", 13)),
    2: (({"coding": 7, "reasoning": 6}, "refactor", 12), ({"coding": 8, "safety": 9}, "security", 6)),
    3: (({"reasoning": 9}, "architecture", 4),),
}


class Job(Struct, frozen=True, eq=False):
    """One task, with what only the simulation knows of it."""

    #: Virtual time of its arrival.
    at_ms: int
    task: TaskPending
    #: How many calls like the recorded one it is, and the tokens of all of them.
    calls: float
    input_tokens: float
    output_tokens: float
    ev: float | None
    #: Models of the fleet that meet its requirements and its class's tier, with their tiers; at least one. Every
    #: scheduler keeps to these.
    able: Mapping[str, Tier]

    @property
    def tier(self) -> Tier:
        """The lowest tier that can do it."""
        return min(self.able.values())

    def service_ms(self, slot: Slot) -> int:
        """How long it takes on that slot, at least 1 ms."""
        return max(1, round(1000 * self.output_tokens / slot.speed_tps))

    def cost_usd(self, slot: Slot) -> float:
        """What it costs on that slot in dollars: each call at the prices of its length and time."""
        rates = slot.tariff.rates(self.task.input_tokens, to_millis(self.task.at))
        assert rates is not None  # noqa: S101 -- a fleet has no model without prices
        uusd = self.input_tokens * rates.input + self.output_tokens * rates.output + self.calls * slot.tariff.fee_uusd
        return uusd / 1e6


def jobs(calls: Sequence[Call], fleet: Fleet, rulebook: Rulebook, *, chance: Random, load: float) -> list[Job]:
    """Make the jobs of a run, in the order of arrival, at a pace that gives the fleet that load (see `paced`).

    The same arguments, with `chance` in the same state, give the same jobs.

    Raises:
        FleetError: no model of the fleet can do one of the tasks.
    """
    speed = sum(slot.speed_tps for slot in fleet) / len(fleet)
    times = TASK_S_MEAN * speed / (sum(call.output_tokens for call in calls) / len(calls))
    models = {slot.model_id for slot in fleet}
    made = [_job(number, call, chance, times, models, rulebook) for number, call in enumerate(calls)]
    return paced(made, fleet, load)


def paced(made: Sequence[Job], fleet: Fleet, load: float) -> list[Job]:
    """Give the same jobs with arrivals stretched so that the tightest tier has that load, 1.0 being all it can do.

    The tightest tier: where the work that needs at least that tier is the largest share of what such slots can do.
    """
    busiest_s = max(
        sum(job.output_tokens for job in made if job.tier >= tier)
        / max(1e-9, sum(slot.speed_tps for slot in fleet if slot.tier >= tier))
        for tier in (1, 2, 3)
    )
    stretch = 1000 * busiest_s / load / max(1, made[-1].at_ms)
    return [_at(job, round(job.at_ms * stretch)) for job in made]


def able(task: TaskPending, models: Collection[str], rulebook: Rulebook) -> dict[str, Tier]:
    """Those of the models that meet every requirement, and the tier of the class that the producer named."""
    tier_min = rulebook.policy.complexity_tier_min[task.complexity] if task.complexity is not None else 1
    known = rulebook.models
    return {
        name: known[name].tier
        for name in sorted(models)
        if known[name].tier >= tier_min and all(known[name].ratings[what] >= bar for what, bar in task.requires.items())
    }


def _job(number: int, call: Call, chance: Random, times: float, models: Collection[str], rulebook: Rulebook) -> Job:
    task = structs.replace(call.task, pool=POOL) if call.task is not None else _invented(number, call, chance)
    can = able(task, models, rulebook)
    if not can:
        raise FleetError(f"No model of the fleet meets the requirements of {task.task_id}: {dict(task.requires)}.")
    return Job(
        at_ms=round(1000 * call.at_s),
        task=task,
        calls=times,
        input_tokens=times * call.input_tokens,
        output_tokens=times * call.output_tokens,
        ev=task.ev if task.ev is not None else ingredients(task),
        able=can,
    )


def _invented(number: int, call: Call, chance: Random) -> TaskPending:
    tiers = (call.tier,) if call.tier is not None else tuple(SHAPES)
    shapes = [shape for tier in tiers for shape in SHAPES[tier]]
    requires, task_type, _ = chance.choices(shapes, [weight for *_, weight in shapes])[0]
    values, weights = zip(*PRIORITIES, strict=True)
    return TaskPending(
        task_id=f"job-{number}",
        pool=POOL,
        at=from_millis(EPOCH_MS),
        requires=requires,
        priority=chance.choices(values, weights)[0],
        ev=round(chance.lognormvariate(EV_MU, EV_SIGMA), 6),
        task_type=task_type,
        input_tokens=call.input_tokens,
    )


def _at(job: Job, at_ms: int) -> Job:
    fields: dict[str, Any] = {"at": from_millis(EPOCH_MS + at_ms)}
    return structs.replace(job, at_ms=at_ms, task=structs.replace(job.task, **fields))
