"""Every rule on every trace, at two loads, several times over: what each run was worth, and rule against rule."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import asdict

from streams.core.policy.rulebook import Rulebook
from streams.simulate import baselines
from streams.simulate.experiment import OURS, lasting
from streams.simulate.fleet import fleet
from streams.simulate.job import jobs
from streams.simulate.oracle import Oracle
from streams.simulate.run_stats import RunStats, run_stats
from streams.simulate.slotwise import Slotwise
from streams.simulate.world import Scheduler, play
from tests.bench.offline.source import Source
from tests.bench.offline.traces import traces
from tests.support.builders import rulebook

#: The shipped catalogue and policy.
BOOK: Final = rulebook()
#: Slots by model. Two premium slots among twelve, so that they are worth something.
MIXED: Final = {"opus": 1, "gpt-5": 1, "sonnet": 2, "codex": 2, "haiku": 4, "gemini-flash": 2}
#: As many slots, all of them premium.
PREMIUM: Final = {"opus": 6, "gpt-5": 6}
#: Of what the tightest tier of the fleet can do: busy, and more than it can.
LOADS: Final = (0.9, 1.3)
#: Each with another stretch of the trace and other draws.
RUNS: Final = 5
#: slotwise taken apart: which part does what.
PRIORITY_ALIKE: Final = 50
LIFT_MORE: Final = 0.70
#: What slotwise is set against.
BASELINES: Final = ("next free slot", "plain [A]", "always-cheap", "highest EV first", "all-premium fleet")
COMPARED: Final = ("ev_per_h", "ev_quality_per_h", "ev_wait_s", "wait_s_p99", "wait_s_max", "usd_per_task")


class Spread(Struct, frozen=True):
    """The mean of the runs, and the least and the most."""

    mean: float
    low: float
    high: float


class FleetRow(Struct, frozen=True, kw_only=True):
    """One rule on one trace at one load."""

    trace: str
    load: float
    rule: str
    #: Tasks of all runs.
    tasks: int
    #: By the names in `RunStats`.
    values: Mapping[str, Spread]
    #: slotwise's values as multiples of this rule's, run by run.
    ratios: Mapping[str, Spread] = {}


def rules() -> dict[str, tuple[Callable[[], Scheduler], Mapping[str, int]]]:
    """Every scheduler with the slots that it gets: a maker each, as each run begins with nothing known."""
    book = shipped()
    by_score, by_list = shipped(strategy={"default": "objective"}), shipped(strategy={"default": "preference"})
    open_to_all = shipped(premium={"ev_percentile": 0.001})
    lifting = shipped(lift={"ev_percentile": LIFT_MORE})
    return {
        "always-premium": (baselines.always_premium, MIXED),
        "all-premium fleet": (baselines.always_premium, PREMIUM),
        "always-cheap": (baselines.always_cheap, MIXED),
        "next free slot": (baselines.next_free_slot, MIXED),
        "FIFO, cheapest capable": (baselines.fifo_cheapest, MIXED),
        "highest EV first": (baselines.highest_ev_first, MIXED),
        "oracle (knows lengths)": (Oracle, MIXED),
        "plain [A]": (baselines.plain_a, MIXED),
        OURS: (lambda: Slotwise(book), MIXED),
        "slotwise, by score": (lambda: Slotwise(by_score), MIXED),
        "slotwise, by preference": (lambda: Slotwise(by_list), MIXED),
        "slotwise, priorities alike": (lambda: Slotwise(book, priority=PRIORITY_ALIKE), MIXED),
        "slotwise, no premium floor": (lambda: Slotwise(open_to_all), MIXED),
        "slotwise, lift from P70": (lambda: Slotwise(lifting), MIXED),
    }


def shipped(**policy: dict[str, Any]) -> Rulebook:
    """The shipped policy with leases that never run out, and changed as said."""
    return lasting(rulebook(**policy))


def measure(source: Source, *, runs: int = RUNS, loads: Sequence[float] = LOADS) -> Iterator[list[FleetRow]]:
    """All traces at all loads, one after the other; each with all rules."""
    for trace, calls_of in traces(source).items():
        calls = [calls_of(run, runs) for run in range(runs)]
        for load in loads:
            found: dict[str, list[RunStats]] = {}
            tasks = 0
            for run in range(runs):
                work = jobs(calls[run], fleet(MIXED, BOOK.models), BOOK, chance=random.Random(run), load=load)
                tasks += len(work)
                for rule, (make, counts) in rules().items():
                    found.setdefault(rule, []).append(run_stats(play(work, fleet(counts, BOOK.models), make())))
            yield [_row(trace, load, rule, tasks, found) for rule in found]


def _row(trace: str, load: float, rule: str, tasks: int, found: Mapping[str, Sequence[RunStats]]) -> FleetRow:
    values = [asdict(one) for one in found[rule]]
    ours = [asdict(one) for one in found[OURS]]
    return FleetRow(
        trace=trace,
        load=load,
        rule=rule,
        tasks=tasks,
        values={name: spread([one[name] for one in values]) for name in values[0]},
        ratios={
            name: spread([our[name] / their[name] for our, their in zip(ours, values, strict=True)])
            for name in COMPARED
            if rule in BASELINES and all(their[name] > 0 for their in values)
        },
    )


def spread(values: Sequence[float]) -> Spread:
    """Mean, least and most."""
    return Spread(fmean(values), min(values), max(values))
