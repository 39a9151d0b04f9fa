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
from streams.core.policy.rules.boundary import task_bounds
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
    #: Time beyond writing the answer, on any model.
    overhead_ms: int = 0

    @property
    def tier(self) -> Tier:
        """The lowest tier that can do it."""
        return min(self.able.values())

    def service_ms(self, slot: Slot) -> int:
        """How long it takes on that slot, at least 1 ms."""
        return max(1, self.overhead_ms + round(1000 * self.output_tokens / slot.speed_tps))

    def cost_usd(self, slot: Slot) -> float:
        """What it costs on that slot in dollars: each call at the prices of its length and time."""
        rates = slot.tariff.rates(self.task.input_tokens, to_millis(self.task.at))
        assert rates is not None  # noqa: S101 -- a fleet has no model without prices
        uusd = self.input_tokens * rates.input + self.output_tokens * rates.output + self.calls * slot.tariff.fee_uusd
        return uusd / 1e6


def jobs(
    calls: Sequence[Call],
    fleet: Fleet,
    rulebook: Rulebook,
    *,
    chance: Random,
    load: float | None,
    task_s: float | None = TASK_S_MEAN,
) -> list[Job]:
    """Make the jobs of a run, in the order of arrival, at a pace that gives the fleet that load (see `paced`).

    With `load` None they come at the recorded times; with `task_s` None a task is one call. The same arguments, with
    `chance` in the same state, give the same jobs.

    Raises:
        FleetError: no model of the fleet can do one of the tasks.
    """
    times = 1.0
    if task_s is not None:
        speed = sum(slot.speed_tps for slot in fleet) / len(fleet)
        times = task_s * speed / (sum(call.output_tokens for call in calls) / len(calls))
    models = {slot.model_id for slot in fleet}
    made = [_job(number, call, chance, times, models, rulebook) for number, call in enumerate(calls)]
    return [_at(job, job.at_ms) for job in made] if load is None else paced(made, fleet, load)


def paced(made: Sequence[Job], fleet: Fleet, load: float) -> list[Job]:
    """Give the same jobs with arrivals stretched so that the tightest tier has that load, 1.0 being all it can do.

    The tightest tier: where the work that needs at least that tier is the largest share of what such slots can do.
    """
    stretch = 1000 * _busiest_s(made, fleet) / load / max(1, made[-1].at_ms)
    return [_at(job, round(job.at_ms * stretch)) for job in made]


def sent(made: Sequence[Job], per_h: float) -> list[Job]:
    """Give the same jobs with arrivals stretched so that so many come an hour."""
    stretch = 3_600_000 * len(made) / per_h / max(1, made[-1].at_ms)
    return [_at(job, round(job.at_ms * stretch)) for job in made]


def on(made: Sequence[Job], fleet: Fleet, rulebook: Rulebook) -> list[Job]:
    """Give the same jobs to another fleet or catalogue: only who can do them differs.

    Raises:
        FleetError: no model of the fleet can do one of them.
    """
    models = {slot.model_id for slot in fleet}
    return [structs.replace(job, able=_able(job.task, models, rulebook)) for job in made]


def able(task: TaskPending, models: Collection[str], rulebook: Rulebook) -> dict[str, Tier]:
    """Those of the models that meet what the producer asks for, with their tiers.

    That is every rating, the tier of the class that it named, and its bounds on models, providers and places.
    """
    known = rulebook.models
    tier_min = rulebook.policy.complexity_tier_min[task.complexity] if task.complexity is not None else 1
    if task.floor_model in known:
        tier_min = max(tier_min, known[task.floor_model].tier)
    return {
        name: known[name].tier
        for name in sorted(models)
        if known[name].tier >= tier_min
        and all(known[name].ratings[what] >= bar for what, bar in task.requires.items())
        and not any(task_bounds(task, known[name]))
    }


def _able(task: TaskPending, models: Collection[str], rulebook: Rulebook) -> dict[str, Tier]:
    can = able(task, models, rulebook)
    if not can:
        raise FleetError(f"No model of the fleet meets the requirements of {task.task_id}: {dict(task.requires)}.")
    return can


def _busiest_s(made: Sequence[Job], fleet: Fleet) -> float:
    """Seconds that the slots of the tightest tier are busy with its work; overhead takes as long on every slot."""
    busiest_s = 0.0
    for tier in (1, 2, 3):
        slots = [slot for slot in fleet if slot.tier >= tier]
        needing = [job for job in made if job.tier >= tier]
        if slots and needing:
            tokens_s = sum(job.output_tokens for job in needing) / sum(slot.speed_tps for slot in slots)
            overhead_s = sum(job.overhead_ms for job in needing) / 1000 / len(slots)
            busiest_s = max(busiest_s, tokens_s + overhead_s)
    return busiest_s


def _job(number: int, call: Call, chance: Random, times: float, models: Collection[str], rulebook: Rulebook) -> Job:
    task = structs.replace(call.task, pool=POOL) if call.task is not None else _invented(number, call, chance)
    return Job(
        at_ms=round(1000 * call.at_s),
        task=task,
        calls=times,
        input_tokens=times * call.input_tokens,
        output_tokens=times * call.output_tokens,
        ev=task.ev if task.ev is not None else ingredients(task),
        able=_able(task, models, rulebook),
        overhead_ms=round(1000 * times * call.overhead_s),
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
