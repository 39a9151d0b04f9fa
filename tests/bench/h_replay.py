"""(h) Verified replay: decisions a second a core that are made again from their inputs and compared, byte by byte.

From a recording on this machine's disk, in plain JSON lines: reading steps and inputs, decoding them, `Router.handle`,
encoding, comparing and applying are all part of it. A thousand tasks wait for a hundred slots of nine models; as many
slots come free as tasks come. Rates a core are by the processor's clock; all partitions side by side by the wall's.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from tests.bench.report import Finding
from tests.bench.sides.replay import Made, Verified
from tests.bench.stage import ROOT, BenchError, run_program

if TYPE_CHECKING:
    from tests.bench.bench import Bench

WAITING: Final = "1000"
SLOTS: Final = "100"
#: As group commit gives them under load; the goal is about these.
STEP_INPUTS: Final = 64
#: As many as one takes at most; and one, as an idle system has them.
OTHERS: Final = (1000, 1)
#: Of one partition, for each event that the bench is asked for.
DECISIONS: Final = 1.25
PARTITIONS: Final = 2
RUNS: Final = 3


def measure(bench: Bench) -> list[Finding]:
    """Make recordings and verify them."""
    decisions = max(8_000, round(bench.options.events * DECISIONS))
    with tempfile.TemporaryDirectory(prefix="slotwise-bench-") as directory:
        found = [_core(bench, Path(directory), STEP_INPUTS, decisions)]
        found += [_core(bench, Path(directory), size, decisions // 4) for size in OTHERS]
        return [*found, _side_by_side(bench, Path(directory), decisions)]


def _core(bench: Bench, directory: Path, step_inputs: int, decisions: int) -> Finding:
    """One partition in one process; the best of some runs, because what else the machine does only slows it down."""
    made = _made(directory, decisions, step_inputs, 1)[0]
    runs = []
    for _ in range(1 if bench.options.quick else RUNS):
        run = msgspec.json.decode(run_program("replay", "verify", str(directory / "r")), type=Verified)
        if not run.same or run.decisions != made.decisions:
            raise BenchError(f"The recording was not verified: {run}.")
        runs.append(run)
        by_processor, by_wall = run.decisions / run.processor_s, run.decisions / run.seconds
        bench.tell(
            f"{step_inputs} inputs a step, {made.bytes_per_decision:,} bytes a decision: "
            f"{by_processor:,.0f} decisions/s of processor, {by_wall:,.0f} by the wall"
        )
    if step_inputs == STEP_INPUTS and (file := bench.profile_file("h_replay")):
        run_program("replay", "verify", str(directory / "r"), str(file))
    shutil.rmtree(directory / "r")
    best = min(runs, key=lambda one: one.processor_s)
    return Finding.of(
        "h.core_per_s" if step_inputs == STEP_INPUTS else f"h.core_{step_inputs}_per_s",
        f"Decisions verified a second of processor, {step_inputs} inputs a step",
        best.decisions / best.processor_s,
        "/s",
        {"made": msgspec.to_builtins(made), "runs": msgspec.to_builtins(runs)},
    )


def _side_by_side(bench: Bench, directory: Path, decisions: int) -> Finding:
    """The command on two partitions, each in a process of its own."""
    _made(directory, decisions, STEP_INPUTS, PARTITIONS)
    words = ("replay", "--verify", "--recording", str(directory / "r"), "--jobs", str(PARTITIONS), "--json")
    ran = subprocess.run(
        [sys.executable, "-m", "streams.cli", *words], capture_output=True, check=False, cwd=ROOT, text=True
    )
    if ran.returncode:
        raise BenchError(f"slotwise replay --verify failed: {ran.stderr or ran.stdout}")
    report = msgspec.json.decode(ran.stdout)
    bench.tell(f"{PARTITIONS} partitions side by side: {report['decisions']:,} decisions in {report['seconds']:.1f} s")
    return Finding.of(
        "h.all_per_s",
        f"Decisions verified a second, {PARTITIONS} partitions side by side, by the wall",
        report["decisions_per_s"],
        "/s",
        report,
    )


def _made(directory: Path, decisions: int, step_inputs: int, partitions: int) -> list[Made]:
    printed = run_program(
        "replay", "make", str(directory / "r"), str(decisions), str(step_inputs), WAITING, SLOTS, str(partitions)
    )
    return msgspec.json.decode(printed, type=list[Made])
