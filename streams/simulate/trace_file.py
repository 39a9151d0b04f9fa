"""Recordings from files: the bundled ones by name, and CSV of the same layouts, plain or packed with gzip.

What a file holds is seen by its columns:
`arrival_s, input_tokens, output_tokens` (and `tier`): requests;
`model_class, window_start_s, requests_per_s`: demand by class of model, in windows of ten minutes;
`t_done, prompt_tokens, completion_tokens` (and `duration_s`): calls of one user of an agent.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Final

from msgspec import structs

from schemas.vocabulary import Tier
from streams.errors import MISTAKE, SlotwiseError
from streams.sample import work
from streams.sample.work import PAUSE_S_MAX, USERS
from streams.simulate.job import TASK_S_MEAN
from streams.simulate.recording import Recording
from streams.simulate.trace import Call, DemandWindow
from streams.text_file import BYTES_MAX, decode_text, read_bytes_file

#: The log of the bundled sample, once through.
SAMPLE: Final = "sample"
SAMPLE_CALLS: Final = 2_500
#: Slices of published traces that come with the code, by name; data/NOTICE.md says whose they are.
BUNDLED: Final[Mapping[str, str]] = {
    "azure_code": "llm_trace_azure_code",
    "azure_conv": "llm_trace_azure_conv",
    "mooncake_conv": "llm_trace_mooncake_conv",
    "servegen": "class_demand_servegen",
}
#: ServeGen's classes of models and the tier that each stands for.
TIERS: Final[Mapping[str, Tier]] = {"m-small": 1, "m-mid": 2, "m-large": 3}
_GZIP: Final = b"\x1f\x8b"

Rows = Sequence[Mapping[str, str]]


class TraceFileError(SlotwiseError):
    """A file is no recording; the message says what it lacks."""

    exit_code = MISTAKE


def bundled(name: str) -> Recording:
    """Return a recording that comes with the code: the sample, or one of `BUNDLED`."""
    if name == SAMPLE:
        return Recording(name=name, calls=tuple(sampled(with_overhead=True)))
    return of_rows(_packed_rows(BUNDLED[name]), name)


def sampled(*, with_overhead: bool) -> list[Call]:
    """The calls of the bundled sample, which carry issue titles, requirements and the ingredients of an EV."""
    return [
        Call(
            task.at_s,
            task.event.input_tokens,
            task.output_tokens,
            # How long the answer will be is not known beforehand.
            task=structs.replace(task.event, output_tokens=None),
            overhead_s=task.overhead_s if with_overhead else 0.0,
        )
        for task in work.tasks("offline", SAMPLE_CALLS)
    ]


def from_file(path: Path) -> Recording:
    """Read a CSV file, plain or packed with gzip.

    Raises:
        TextFileError: it cannot be read as text.
        TraceFileError: it has none of the layouts.
    """
    content = read_bytes_file(path)
    if content.startswith(_GZIP):
        try:
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(BYTES_MAX + 1)
        except (OSError, EOFError, zlib.error):
            raise TraceFileError(f"{path} cannot be unpacked: it is damaged, or no gzip file.") from None
        if len(content) > BYTES_MAX:
            raise TraceFileError(f"{path} is too large unpacked: cut it to {BYTES_MAX // 2**20} MiB.")
    try:
        rows = list(csv.DictReader(io.StringIO(decode_text(content, path), newline="")))
    except csv.Error as error:
        raise TraceFileError(f"{path} is no CSV ({error}).") from None
    return of_rows(rows, str(path))


def of_rows(rows: Rows, name: str) -> Recording:
    """Make a recording of the rows of a file.

    Raises:
        TraceFileError: they have none of the layouts, or a row holds no number where one must be.
    """
    columns = set(rows[0]) if rows else set()
    if {"arrival_s", "input_tokens", "output_tokens"} <= columns:
        return Recording(name=name, calls=_requests(rows, name), task_s=TASK_S_MEAN)
    if {"model_class", "window_start_s", "requests_per_s"} <= columns:
        return _demand(rows, name)
    if {"t_done", "prompt_tokens", "completion_tokens"} <= columns:
        return _agent_calls(rows, name)
    raise TraceFileError(
        f"{name} has no rows of a layout that can be simulated: arrival_s, input_tokens, output_tokens; or "
        "model_class, window_start_s, requests_per_s; or t_done, prompt_tokens, completion_tokens."
    )


def _requests(rows: Rows, name: str) -> tuple[Call, ...]:
    calls = [
        Call(
            _number(row, "arrival_s", name, line),
            _count(row, "input_tokens", name, line),
            _count(row, "output_tokens", name, line),
            tier=_tier(row, name, line),
        )
        for line, row in enumerate(rows, start=2)
    ]
    return _from_0(sorted(calls, key=lambda call: call.at_s), name)


def _demand(rows: Rows, name: str) -> Recording:
    """Lengths are not in it: those are drawn from the bundled chat service."""
    windows = [
        DemandWindow(
            _count(row, "window_start_s", name, line),
            TIERS[row["model_class"]],
            _number(row, "requests_per_s", name, line),
        )
        for line, row in enumerate(rows, start=2)
        if row["model_class"] in TIERS
    ]
    if not any(window.requests_per_s for window in windows):
        raise TraceFileError(f"{name} has no demand for any of {', '.join(TIERS)}.")
    chat = _packed_rows(BUNDLED["azure_conv"])
    return Recording(
        name=name,
        windows=tuple(windows),
        lengths=tuple((int(row["input_tokens"]), int(row["output_tokens"])) for row in chat),
        task_s=TASK_S_MEAN,
        notes=("Lengths are not in the demand: they are drawn from the bundled slice azure_conv.",),
    )


def _agent_calls(rows: Rows, name: str) -> Recording:
    """One user's log counts as `USERS` such users' and pauses are cut, as in the bundled sample."""
    ends = [_number(row, "t_done", name, line) for line, row in enumerate(rows, start=2)]
    gaps = [0.0, *(min(max(after - before, 0.0), PAUSE_S_MAX) / USERS for before, after in pairwise(ends))]
    calls, at_s = [], 0.0
    for line, (row, gap) in enumerate(zip(rows, gaps, strict=True), start=2):
        at_s += gap
        calls.append(Call(at_s, _count(row, "prompt_tokens", name, line), _count(row, "completion_tokens", name, line)))
    return Recording(
        name=name,
        calls=_from_0(calls, name),
        task_s=TASK_S_MEAN,
        notes=(f"Pauses of one user are cut to {PAUSE_S_MAX:g} s, as if {USERS} such users shared the fleet.",),
    )


def _from_0(calls: Sequence[Call], name: str) -> tuple[Call, ...]:
    if len(calls) < 2 or calls[-1].at_s <= calls[0].at_s or not sum(call.output_tokens for call in calls):  # noqa: PLR2004 -- a pace takes two
        raise TraceFileError(f"{name} has too few calls with times and answers to make a run of.")
    return tuple(structs.replace(call, at_s=call.at_s - calls[0].at_s) for call in calls)


def _number(row: Mapping[str, str], column: str, name: str, line: int) -> float:
    try:
        found = float(row[column])
        if isfinite(found) and abs(found) < 1e12:  # noqa: PLR2004 -- seconds and tokens are fewer
            return found
    except (TypeError, ValueError):
        pass
    raise TraceFileError(f"Line {line} of {name} has no number in column {column}.")


def _count(row: Mapping[str, str], column: str, name: str, line: int) -> int:
    found = _number(row, column, name, line)
    if found < 0:
        raise TraceFileError(f"Line {line} of {name} has a number below 0 in column {column}.")
    return round(found)


def _tier(row: Mapping[str, str], name: str, line: int) -> Tier | None:
    match row.get("tier") or None:
        case None:
            return None
        case "1":
            return 1
        case "2":
            return 2
        case "3":
            return 3
    raise TraceFileError(f"Line {line} of {name} has no tier 1, 2 or 3 in column tier.")


def _packed_rows(name: str) -> list[dict[str, str]]:
    packed = resources.files("streams.simulate").joinpath("data", f"{name}.csv.gz").read_bytes()
    return list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
