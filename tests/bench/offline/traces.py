"""The recorded arrivals of the bench, read from the data: three logs, a day of demand by class, and the sample."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Final

from msgspec import structs

from schemas.vocabulary import Tier
from streams.sample.work import tasks
from streams.simulate.trace import Call, DemandWindow, Trace, drawn, recorded
from tests.bench.offline.source import Source

#: ServeGen's classes of models and the tier that each stands for.
TIERS: Final[dict[str, Tier]] = {"m-small": 1, "m-mid": 2, "m-large": 3}
#: Calls in the sample's log.
SAMPLE_CALLS: Final = 2_500


def traces(source: Source) -> Mapping[str, Trace]:
    """All traces, by name."""
    found: dict[str, Trace] = {
        name: recorded(_calls(source.rows(f"traces/llm_trace_{name}")))
        for name in ("azure_code", "azure_conv", "mooncake_conv")
    }
    # The demand tells no lengths: those are drawn from azure_conv.
    lengths = [
        (int(row["input_tokens"]), int(row["output_tokens"])) for row in source.rows("traces/llm_trace_azure_conv")
    ]
    windows = [
        DemandWindow(int(row["window_start_s"]), TIERS[row["model_class"]], float(row["requests_per_s"]))
        for row in source.rows("traces/class_demand_servegen")
        if row["model_class"] in TIERS
    ]
    found["servegen"] = drawn(windows, lengths, lambda run: random.Random(f"servegen {run}"))
    found["aider"] = recorded(sampled())
    return found


def sampled() -> list[Call]:
    """The calls of the bundled sample, which carry issue titles, requirements and the ingredients of an EV."""
    return [
        Call(
            task.at_s,
            task.event.input_tokens,
            task.output_tokens,
            # How long the answer will be is not known beforehand.
            task=structs.replace(task.event, output_tokens=None),
        )
        for task in tasks("offline", SAMPLE_CALLS)
    ]


def _calls(rows: Sequence[Mapping[str, str]]) -> list[Call]:
    return [Call(float(row["arrival_s"]), int(row["input_tokens"]), int(row["output_tokens"])) for row in rows]
