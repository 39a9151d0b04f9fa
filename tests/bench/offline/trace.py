"""Recorded arrivals: when calls came, how long their prompts were and how long the answers.

A trace is cut into as many stretches as there are runs, so that every run sees other arrivals of the same service.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from msgspec import Struct

from streams.sample.work import tasks
from tests.bench.offline.source import Source

#: Tasks of one run, at most.
CALLS_MAX: Final = 1_500
#: ServeGen counts by windows of this length, and a run tells a day of them.
WINDOW_S: Final = 600
WINDOWS_A_DAY: Final = 144
CLASSES: Final = ("m-small", "m-mid", "m-large")
#: Calls in the sample's log.
SAMPLE_CALLS: Final = 2_500


class Call(Struct, frozen=True):
    """One recorded arrival; times count from the stretch's first."""

    at_s: float
    input_tokens: int
    output_tokens: int
    #: The lowest tier it wants, where the source says so.
    tier: int | None = None
    #: Its place in the bundled sample, which knows what it is about.
    sample: int | None = None


#: The calls of run i of n.
Trace = Callable[[int, int], list[Call]]


def traces(source: Source) -> Mapping[str, Trace]:
    """All traces, by name."""
    lengths = [int(row["output_tokens"]) for row in source.rows("traces/llm_trace_azure_conv")]
    prompts = [int(row["input_tokens"]) for row in source.rows("traces/llm_trace_azure_conv")]
    demand = source.rows("traces/class_demand_servegen")
    found: dict[str, Trace] = {
        name: _recorded(source.rows(f"traces/llm_trace_{name}"))
        for name in ("azure_code", "azure_conv", "mooncake_conv")
    }
    found["servegen"] = lambda run, runs: _drawn(demand, run, runs, prompts, lengths)
    found["aider"] = _sampled
    return found


def _recorded(rows: Sequence[Mapping[str, str]]) -> Trace:
    calls = [Call(float(row["arrival_s"]), int(row["input_tokens"]), int(row["output_tokens"])) for row in rows]
    return lambda run, runs: _stretch(calls, run, runs)


def _stretch(calls: Sequence[Call], run: int, runs: int) -> list[Call]:
    """The first calls of stretch i of n."""
    size = len(calls) // runs
    some = calls[run * size : run * size + min(size, CALLS_MAX)]
    return [
        Call(call.at_s - some[0].at_s, call.input_tokens, call.output_tokens, call.tier, call.sample) for call in some
    ]


def _drawn(
    demand: Sequence[Mapping[str, str]], run: int, runs: int, prompts: Sequence[int], lengths: Sequence[int]
) -> list[Call]:
    """A day of the demand by class: Poisson arrivals within each window, thinned; lengths drawn from azure_conv."""
    chance = random.Random(f"servegen {run}")
    rows = [row for row in demand if row["model_class"] in CLASSES]
    starts = sorted({int(row["window_start_s"]) for row in rows})
    days = max(1, len(starts) // WINDOWS_A_DAY)
    day = starts[(run * days // runs) * WINDOWS_A_DAY :][:WINDOWS_A_DAY]
    rows = [row for row in rows if day[0] <= int(row["window_start_s"]) <= day[-1]]
    thinned = CALLS_MAX / (WINDOW_S * sum(float(row["requests_per_s"]) for row in rows))
    calls = []
    for row in rows:
        start_s, rate = int(row["window_start_s"]) - day[0], float(row["requests_per_s"]) * thinned
        at_s = chance.expovariate(rate) if rate else WINDOW_S
        while at_s < WINDOW_S:
            length = chance.randrange(len(lengths))
            calls.append(
                Call(start_s + at_s, prompts[length], lengths[length], tier=CLASSES.index(row["model_class"]) + 1)
            )
            at_s += chance.expovariate(rate)
    return sorted(calls, key=lambda call: call.at_s)


def _sampled(run: int, runs: int) -> list[Call]:
    """The calls of the bundled sample, which carry issue titles, bars and the ingredients of an EV."""
    calls = [
        Call(task.at_s, task.event.input_tokens, task.output_tokens, sample=number)
        for number, task in enumerate(tasks("offline", SAMPLE_CALLS))
    ]
    return _stretch(calls, run, runs)
