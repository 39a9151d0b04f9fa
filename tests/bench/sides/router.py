"""Measure `Router.handle` alone, in one thread, by the processor's clock; prints its findings as JSON.

Run: python -m tests.bench.sides.router WAITING SLOTS[,SLOTS...] WINDOWS DECISIONS plain|whole [PROFILE]
`whole`: accounts, budgets, marks, classes and all strategies take part; `plain`: the cheapest capable class only.
A process of its own for each backlog, so that memory and the garbage collector start clean.
"""

from __future__ import annotations

import cProfile
import gc
import resource
import sys
from pathlib import Path
from statistics import median
from time import process_time
from typing import Final

import msgspec
from msgspec import Struct

from schemas.input import Input
from schemas.steps import encode_step
from streams.core.router import Router
from streams.settings import Settings
from streams.shipped import file_rulebook
from tests.bench.profile import write_profile
from tests.bench.workload import Churn, in_steps

START_MS: Final = 1_795_255_200_000
#: As group commit gives them under load.
STEP_INPUTS: Final = 64
FILL_INPUTS: Final = 1000


class Cost(Struct, frozen=True, kw_only=True):
    """Microseconds a decision."""

    handle_us: float
    apply_us: float
    encode_us: float
    #: Least and most of the windows.
    handle_us_min: float
    handle_us_max: float
    #: The same time by input instead of by decision.
    handle_us_per_input: float
    decisions_per_step: float
    #: Share of the decisions that only tell a waiting task's new headline.
    told_again_share: float


class Cell(Struct, frozen=True, kw_only=True):
    """What was measured with one backlog and one fleet."""

    waiting: int
    slots: int
    #: Steps of `STEP_INPUTS` inputs, or of two for each slot where there are fewer.
    batched: Cost
    #: Steps of one input.
    single: Cost


class Filled(Struct, frozen=True, kw_only=True):
    """What one process found."""

    waiting: int
    #: Making it, by steps of `FILL_INPUTS`: `handle` and `apply` together.
    fill_us_per_task: float
    #: Resident memory for each waiting task.
    bytes_per_task: int
    cells: tuple[Cell, ...]


class _Window:
    """Sums of one stretch of measuring."""

    def __init__(self) -> None:
        self.handle_s = self.apply_s = self.encode_s = 0.0
        self.decisions = self.steps = self.inputs = self.told_again = 0


class Bench:
    """A router with a backlog, and the world around it."""

    def __init__(self, *, whole: bool) -> None:
        settings = Settings()
        rulebook = file_rulebook(settings)
        self.router = Router(0, rulebook)
        self.churn = Churn("main", START_MS, whole=whole)
        if whole:
            self.play(self.churn.rule())

    @property
    def waiting(self) -> int:
        """Tasks without a slot."""
        return self.router.rows - self.churn.leased - self.churn.leased

    def play(self, inputs: list[Input]) -> None:
        """Let something happen, unmeasured."""
        for some in in_steps(inputs, FILL_INPUTS):
            step = self.router.handle(some)
            self.router.apply(step)
            self.churn.see(step)

    def fill(self, waiting: int) -> None:
        """Have so many tasks wait."""
        while (missing := waiting - self.waiting) > 0:
            self.play(self.churn.arrive(min(FILL_INPUTS, missing)))

    def cost(self, windows: int, decisions: int, *, step_inputs: int) -> Cost:
        """Measure; the first window only warms up."""
        found = [self._window(decisions, step_inputs) for _ in range(windows + 1)][1:]
        handle_us = [one.handle_s / one.decisions * 1e6 for one in found]
        return Cost(
            handle_us=round(median(handle_us), 2),
            apply_us=round(median(one.apply_s / one.decisions * 1e6 for one in found), 2),
            encode_us=round(median(one.encode_s / one.decisions * 1e6 for one in found), 2),
            handle_us_min=round(min(handle_us), 2),
            handle_us_max=round(max(handle_us), 2),
            handle_us_per_input=round(median(one.handle_s / one.inputs * 1e6 for one in found), 2),
            decisions_per_step=round(median(one.decisions / one.steps for one in found), 2),
            told_again_share=round(median(one.told_again / one.decisions for one in found), 3),
        )

    def _window(self, decisions: int, step_inputs: int) -> _Window:
        window = _Window()
        router, churn = self.router, self.churn
        free = True
        while window.decisions < decisions:
            if step_inputs > 1:
                inputs = churn.turn(step_inputs // 2)
            else:
                inputs = churn.finish() if free and churn.leased else churn.arrive(1)
                free = not free
            begun_s = process_time()
            step = router.handle(inputs)
            handled_s = process_time()
            encode_step(step)
            encoded_s = process_time()
            router.apply(step)
            applied_s = process_time()
            window.handle_s += handled_s - begun_s
            window.encode_s += encoded_s - handled_s
            window.apply_s += applied_s - encoded_s
            window.decisions += len(step.decisions)
            window.steps += 1
            window.inputs += len(inputs)
            new = {row.task.task_id for row in step.tasks}
            window.told_again += sum(1 for one in step.decisions if one.outcome == "waiting" and one.task_id not in new)
            churn.see(step)
        return window


def main(waiting: int, fleets: list[int], windows: int, decisions: int, rules: str, profile: str | None) -> None:
    """Fill, then measure with each fleet."""
    empty_bytes = _resident_bytes()
    bench = Bench(whole=rules == "whole")
    begun_s = process_time()
    bench.fill(waiting)
    fill_s = process_time() - begun_s
    gc.collect()
    grown_bytes = _resident_bytes() - empty_bytes
    gc.freeze()
    profiler = cProfile.Profile()
    cells = []
    slots = 0
    for fleet in fleets:
        bench.play(bench.churn.announce(fleet - slots))
        slots = fleet
        bench.fill(waiting)
        batched = bench.cost(windows, decisions, step_inputs=STEP_INPUTS)
        single = bench.cost(windows, decisions, step_inputs=1)
        if profile is not None:
            # After the measuring, which it would slow down.
            profiler.enable()
            bench.cost(1, decisions, step_inputs=STEP_INPUTS)
            profiler.disable()
        cells.append(Cell(waiting=waiting, slots=fleet, batched=batched, single=single))
    bench.router.validate()
    if profile is not None:
        write_profile(profiler, profile)
    found = Filled(
        waiting=waiting,
        fill_us_per_task=round(fill_s / waiting * 1e6, 1),
        bytes_per_task=grown_bytes // waiting,
        cells=tuple(cells),
    )
    sys.stdout.write(msgspec.json.encode(found).decode())


def _resident_bytes() -> int:
    # Not the highest so far, which a process inherits from who started it; 0 where the system does not tell.
    try:
        pages = Path("/proc/self/statm").read_text().split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


if __name__ == "__main__":
    main(
        int(sys.argv[1]),
        [int(slots) for slots in sys.argv[2].split(",")],
        int(sys.argv[3]),
        int(sys.argv[4]),
        sys.argv[5],
        sys.argv[6] if len(sys.argv) > 6 else None,
    )
