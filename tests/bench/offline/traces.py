"""The recorded arrivals of the bench, read from the data: three logs, a day of demand by class, and the sample."""

from __future__ import annotations

import random
from collections.abc import Mapping

from streams.simulate.trace import Trace, drawn, recorded
from streams.simulate.trace_file import of_rows, sampled
from tests.bench.offline.source import Source


def traces(source: Source) -> Mapping[str, Trace]:
    """All traces, by name."""
    logs = {
        name: of_rows(source.rows(f"traces/llm_trace_{name}"), name).calls
        for name in ("azure_code", "azure_conv", "mooncake_conv")
    }
    found = {name: recorded(calls) for name, calls in logs.items()}
    # The demand tells no lengths: those are drawn from azure_conv.
    lengths = [(call.input_tokens, call.output_tokens) for call in logs["azure_conv"]]
    windows = of_rows(source.rows("traces/class_demand_servegen"), "servegen").windows
    found["servegen"] = drawn(windows, lengths, lambda run: random.Random(f"servegen {run}"))
    found["aider"] = recorded(sampled(with_overhead=False))
    return found
