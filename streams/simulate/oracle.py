"""What foresight is worth: a scheduler that knows how long work takes, and a bound that knows everything.

`Oracle` knows of each job how long it would take on each slot, which no router knows, and of those that are still to
come nothing. It gives each slot the job of the most EV a second of its time. `ev_bound` is a limit that no scheduler
can pass, whatever it knows: arrivals, lengths and values of the whole run, with jobs that may be cut into pieces and
done in any order within the slots' time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from streams.simulate.fleet import Fleet, Slot
from streams.simulate.job import Job

#: Steps of the search for the tightest prices of slot time; more of them lower the bound by less than a thousandth.
_STEPS: Final = 200


class Oracle:
    """A scheduler that knows service times."""

    def __init__(self) -> None:
        self._free: dict[str, Slot] = {}
        self._waiting: dict[str, Job] = {}

    def decide(self, now_ms: int, freed: Sequence[Slot], arrived: Sequence[Job]) -> list[tuple[Job, Slot]]:
        """Each freed slot takes the job of the most EV a second of its own; what arrives takes the quickest slot."""
        del now_ms
        placed: list[tuple[Job, Slot]] = []
        for slot in freed:
            able = [job for job in self._waiting.values() if slot.model_id in job.able]
            if able:
                best = max(able, key=lambda job: (job.ev or 0.0) / job.service_ms(slot))
                placed.append((self._waiting.pop(best.task.task_id), slot))
            else:
                self._free[slot.slot_id] = slot
        for job in arrived:
            slots = [slot for slot in self._free.values() if slot.model_id in job.able]
            if slots:
                quickest = min(slots, key=lambda slot: (job.service_ms(slot), job.cost_usd(slot)))
                placed.append((job, self._free.pop(quickest.slot_id)))
            else:
                self._waiting[job.task.task_id] = job
        return placed

    def due_ms(self) -> None:
        """It acts on arrivals and freed slots only."""
        return


def ev_bound(jobs: Sequence[Job], fleet: Fleet, until_ms: int) -> float:
    """Return more EV than any scheduler can have done by that time, or as much.

    A Lagrangian bound: slot time of each model has a price, and a job is done where its EV is above what its time
    costs. Any prices give a limit; a subgradient search finds low ones.
    """
    slots = {slot.model_id: slot for slot in fleet}
    counts = Counter(slot.model_id for slot in fleet)
    models = sorted(slots)
    capacity = [float(counts[model] * until_ms) for model in models]
    # Of each job its EV, and (model, time there) where it could end in time.
    wanted = []
    for job in jobs:
        times = [(at, job.service_ms(slots[model])) for at, model in enumerate(models) if model in job.able]
        in_time = [(at, ms) for at, ms in times if job.at_ms + ms <= until_ms]
        if in_time and job.ev is not None and job.ev > 0:
            wanted.append((job.ev, in_time))
    lowest = sum(ev for ev, _ in wanted)
    work_ms = sum(min(ms for _, ms in times) for _, times in wanted)
    if not wanted or not work_ms:
        return lowest
    # Prices are EV a millisecond; what a millisecond of the mean job brings is their natural size.
    scale = lowest / work_ms
    prices = [0.0] * len(models)
    for step in range(_STEPS):
        value = sum(price * limit for price, limit in zip(prices, capacity, strict=True))
        used = [0.0] * len(models)
        for ev, times in wanted:
            gain, at, ms = max((ev - prices[at] * ms, at, ms) for at, ms in times)
            if gain > 0:
                value += gain
                used[at] += ms
        lowest = min(lowest, value)
        over = [(spent - limit) / limit for spent, limit in zip(used, capacity, strict=True)]
        size = max(map(abs, over)) or 1.0
        prices = [
            max(0.0, price + scale / (1 + step / 8) * part / size) for price, part in zip(prices, over, strict=True)
        ]
    return lowest
