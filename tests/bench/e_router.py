"""(e) `Router.handle` alone: microseconds a decision with 10^3 to 10^6 waiting and 10 to 1,000 slots.

Nothing else takes part: no broker, no encoding, no apply; those two are reported beside it. Nine models, ten shapes
of requirements, priorities 30 to 90, lognormal expected values, arrivals a millisecond apart, and as many slots that
come free as tasks that come, so that the number waiting stays. The same again, with one fleet, while every rule takes
part: accounts, budgets and their ledgers, a quota and an exhausted product, classes by table, and all strategies.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from tests.bench.report import Finding
from tests.bench.sides.router import Filled
from tests.bench.stage import run_program

if TYPE_CHECKING:
    from tests.bench.bench import Bench

WAITING: Final = (1_000, 100_000, 1_000_000)
WAITING_QUICK: Final = (1_000, 10_000)
SLOTS: Final = (10, 100, 1_000)
WINDOWS: Final = 7
DECISIONS: Final = 3_000
WHOLE_SLOTS: Final = 100


def measure(bench: Bench) -> list[Finding]:
    """Measure every cell, each backlog in a process of its own."""
    quick = bench.options.quick
    filled, whole = [], []
    backlogs = WAITING_QUICK if quick else WAITING
    windows = str(3 if quick else WINDOWS)
    growth = f"{backlogs[-1]:,} waiting by {backlogs[0]:,}"
    for waiting in backlogs:
        file = bench.profile_file(f"e_router_{waiting}")
        arguments = [str(waiting), ",".join(map(str, SLOTS)), windows, str(DECISIONS), "plain"]
        if file:
            arguments.append(str(file))
        found = msgspec.json.decode(run_program("router", *arguments), type=Filled)
        filled.append(found)
        for cell in found.cells:
            bench.tell(
                f"{cell.waiting:,} waiting, {cell.slots:,} slots: {cell.batched.handle_us:.1f} us a decision in steps "
                f"of 64 inputs, {cell.single.handle_us:.1f} us in steps of one"
            )
        if waiting in (backlogs[0], backlogs[-1]):
            arguments = [str(waiting), str(WHOLE_SLOTS), windows, str(DECISIONS), "whole"]
            (cell,) = msgspec.json.decode(run_program("router", *arguments), type=Filled).cells
            whole.append(cell)
            bench.tell(
                f"{waiting:,} waiting, {WHOLE_SLOTS} slots, the whole policy: {cell.batched.handle_us:.1f} us a "
                f"decision in steps of 64 inputs, {cell.single.handle_us:.1f} us in steps of one"
            )
    cells = [cell for one in filled for cell in one.cells]
    least, most = filled[0].cells, filled[-1].cells
    batched = max(cell.batched.handle_us for cell in cells)
    by_input = max(cell.batched.handle_us_per_input for cell in cells)
    single = max(cell.single.handle_us for cell in cells)
    batched_growth = max(b.batched.handle_us / a.batched.handle_us for a, b in zip(least, most, strict=True))
    single_growth = max(b.single.handle_us / a.single.handle_us for a, b in zip(least, most, strict=True))
    small, large = whole
    details = {"filled": msgspec.to_builtins(filled), "whole": msgspec.to_builtins(whole)}
    return [
        Finding.of("e.batched_us", "A decision, 64 inputs a step, worst cell", batched, "us", details),
        Finding.of("e.single_us", "A decision, one input a step, worst cell", single, "us"),
        Finding.of("e.input_us", "An input, 64 inputs a step, worst cell (no goal)", by_input, "us"),
        Finding.of("e.batched_growth", f"{growth}, 64 inputs a step, worst fleet", batched_growth, "x"),
        Finding.of("e.single_growth", f"{growth}, one input a step, worst fleet", single_growth, "x"),
        Finding.of(
            "e.whole_batched_us", "The whole policy, 64 inputs a step, least backlog", small.batched.handle_us, "us"
        ),
        Finding.of(
            "e.whole_single_us", "The whole policy, one input a step, least backlog", small.single.handle_us, "us"
        ),
        Finding.of(
            "e.whole_batched_growth",
            f"The whole policy, {growth}, 64 inputs a step",
            large.batched.handle_us / small.batched.handle_us,
            "x",
        ),
        Finding.of(
            "e.whole_single_growth",
            f"The whole policy, {growth}, one input a step",
            large.single.handle_us / small.single.handle_us,
            "x",
        ),
    ]
