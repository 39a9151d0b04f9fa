"""The simulator agrees with a plain one that shares no code with it, and with the mean waits of queueing theory."""

from __future__ import annotations

import random
from collections.abc import Callable
from math import factorial
from statistics import fmean

import pytest

from schemas.events import TaskPending
from schemas.vocabulary import Tier, from_millis
from streams.estimate.interval import of_few
from streams.simulate.baselines import BASELINES, fifo_cheapest, next_free_slot
from streams.simulate.experiment import lasting
from streams.simulate.fleet import Fleet, fleet
from streams.simulate.job import EPOCH_MS, POOL, Job
from streams.simulate.run_stats import run_stats
from streams.simulate.slotwise import Slotwise
from streams.simulate.world import Scheduler, play
from tests.reference import plain_simulator as plain
from tests.support.builders import rulebook

BOOK = lasting(rulebook())
MIXED = fleet({"opus": 2, "sonnet": 3, "haiku": 4}, BOOK.models)
RULES: dict[str, plain.Rule] = {
    "always-premium": plain.always_premium,
    "always-cheap": plain.always_cheap,
    "next-free": plain.next_free,
    "fifo-cheapest": plain.fifo_cheapest,
    "highest-ev": plain.highest_ev,
}


def job(number: int, at_s: float, tokens: float, tiers: dict[str, Tier], *, ev: float = 1.0) -> Job:
    """Give a job with all that the simulator asks of it."""
    at_ms = round(1000 * at_s)
    event = TaskPending(task_id=f"job-{number}", pool=POOL, at=from_millis(EPOCH_MS + at_ms), ev=ev)
    return Job(at_ms, event, 1.0, 0.0, tokens, ev, tiers)


def busy_work(seed: int, slots: Fleet) -> list[Job]:
    """Two hundred jobs in overload, at whole seconds; a tenth only tier 3 can do, a third tier 2 and up."""
    chance = random.Random(seed)
    tiers = {slot.model_id: slot.tier for slot in slots}
    made, at_s = [], 0.0
    for number in range(200):
        at_s += chance.expovariate(1 / 4)
        least = chance.choices((1, 2, 3), (57, 33, 10))[0]
        can = {model: tier for model, tier in tiers.items() if tier >= least}
        made.append(
            job(number, round(at_s), 60 * chance.expovariate(1 / 30), can, ev=round(chance.lognormvariate(1, 1), 6))
        )
    return made


def test_a_plain_simulator_ranks_the_rules_alike() -> None:
    """By EV served in time, by wait of value and by dollars; means of three runs, and the numbers are near as well."""
    found: dict[str, dict[str, list[float]]] = {name: {"ev": [], "wait": [], "usd": []} for name in RULES}
    expected: dict[str, dict[str, list[float]]] = {name: {"ev": [], "wait": [], "usd": []} for name in RULES}
    prices = {slot.model_id: slot.tariff.rates(0, EPOCH_MS) for slot in MIXED}  # type: ignore[arg-type]  # millis
    slots = [
        plain.PlainSlot(slot.model_id, slot.tier, slot.speed_tps, price.output / 1e6)
        for slot in MIXED
        if (price := prices[slot.model_id]) is not None
    ]
    for seed in range(3):
        work = busy_work(seed, MIXED)
        bare = [plain.PlainJob(one.at_ms // 1000, one.output_tokens, one.ev or 0.0, dict(one.able)) for one in work]
        hours = work[-1].at_ms / 3_600_000
        for name, rule in RULES.items():
            own = run_stats(play(work, MIXED, BASELINES[name]()))
            other = plain.simulate(bare, slots, rule)
            for key, value, theirs in (
                ("ev", own.ev_per_h, other.ev_in_time / hours),
                ("wait", own.ev_wait_s, other.ev_wait),
                ("usd", own.usd_per_task, other.usd / len(work)),
            ):
                found[name][key].append(value)
                expected[name][key].append(theirs)
    for key, nearness in (("ev", 0.05), ("wait", 0.15), ("usd", 0.03)):
        ours = {name: fmean(one[key]) for name, one in found.items()}
        others = {name: fmean(one[key]) for name, one in expected.items()}
        assert ours == pytest.approx(others, rel=nearness), key
        assert sorted(ours, key=ours.__getitem__) == sorted(others, key=others.__getitem__), key


def erlang_c_wait_s(servers: int, rate: float, service_s: float) -> float:
    """The mean wait of M/M/c: Poisson arrivals, exponential work, first come, first served."""
    offered = rate * service_s
    busy = offered / servers
    full = offered**servers / factorial(servers) / (1 - busy)
    all_busy = full / (sum(offered**n / factorial(n) for n in range(servers)) + full)
    return all_busy * service_s / (servers * (1 - busy))


@pytest.mark.parametrize(("servers", "load"), [(1, 0.7), (3, 0.8)])
@pytest.mark.parametrize("make", [next_free_slot, fifo_cheapest, lambda: Slotwise(BOOK)], ids=["fifo", "cheap", "own"])
def test_mean_waits_are_those_of_erlang(servers: int, load: float, make: Callable[[], Scheduler]) -> None:
    """Where all slots and tasks are alike a fleet is M/M/c; the analytic mean is within the interval of the runs.

    An interval of 95 % misses one time in twenty; with these seeds it does not, nor does the router's.
    """
    slots = fleet({"haiku": servers}, BOOK.models)
    service_s, speed = 20.0, slots[0].speed_tps
    rate = load * servers / service_s
    means = []
    for seed in range(8):
        chance = random.Random(f"{servers} {seed}")
        work, at_s = [], 0.0
        for number in range(600):
            at_s += chance.expovariate(rate)
            work.append(job(number, at_s, speed * chance.expovariate(1 / service_s), {"haiku": 1}))
        waited = [one.wait_s for one in play(work, slots, make())]
        # A run begins with a free fleet: its first part is left out.
        means.append(fmean(waited[150:]))
    assert of_few(means).covers(erlang_c_wait_s(servers, rate, service_s))


def test_the_formula_of_erlang_is_right_where_a_hand_finds_it() -> None:
    """Of one server it is load / (1 - load) of the service time; of two at load 1/2 a third of it."""
    assert erlang_c_wait_s(1, 0.7 / 20, 20) == pytest.approx(0.7 / 0.3 * 20)
    assert erlang_c_wait_s(2, 1 / 20, 20) == pytest.approx(20 / 3)
