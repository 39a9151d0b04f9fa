"""How records flow through the partitions, and in words how each reader of the topics keeps up. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from schemas.vocabulary import from_millis
from streams.views.lag import KEEPS_UP_S, LagReport, Progress
from streams.views.overview import RecoveredPartition
from streams.views.parts import Parts
from streams.views.pulse import PulseView
from streams.views.units import many, span


class PartitionFlow(Struct, frozen=True, kw_only=True):
    """One partition."""

    partition: int
    #: Steps so far, and the time of the last one.
    steps: int
    last_input: str | None
    tasks: int
    slots: int
    #: Whether a worker has it; None: not known.
    served: bool | None


class Flow(Struct, frozen=True, kw_only=True):
    """All partitions."""

    says: str
    partitions: tuple[PartitionFlow, ...]


def flow(
    recovered: Mapping[int, RecoveredPartition], pulse: PulseView, *, parts: Parts | None, lag: LagReport | None
) -> Flow:
    """Return the flow through the partitions that are known; `lag` None: how far readers are is not known now."""
    served = None
    if parts is not None and parts.workers:
        served = set(range(len(recovered))) - set(parts.unserved)
    return Flow(
        says=" ".join(_says(pulse, lag, parts)),
        partitions=tuple(
            PartitionFlow(
                partition=number,
                steps=one.router.seq,
                last_input=from_millis(one.router.now_ms) if one.router.seq else None,
                tasks=sum(len(pool.tasks) for pool in one.router.state.pools.values()),
                slots=sum(len(pool.slots) for pool in one.router.state.pools.values()),
                served=None if served is None else number in served,
            )
            for number, one in sorted(recovered.items())
        ),
    )


def moves(one: Progress) -> str:
    """Say how many records a second are read, and of how many that come where that is another number."""
    if one.in_per_s is None or one.out_per_s is None:
        return ""
    read, came = f"{one.out_per_s:.1f}", f"{one.in_per_s:.1f}"
    return f"{read}/s" if read == came else f"{read} of {came}/s"


def behind(one: Progress) -> str:
    """Say how far a reader is, in records and time."""
    return f"{one.records:,} behind, {span(one.late_s, units=1)}" if one.records else "0 behind"


def stands(one: Progress) -> str:
    """Say whether a reader keeps up, and else when it has read all."""
    if not one.records:
        return "has read all"
    if one.late_s <= KEEPS_UP_S:
        return "keeps up"
    if one.drain_s is not None:
        return f"all read in {span(one.drain_s, units=1)}"
    return "is behind" if one.out_per_s is None else "does not catch up"


def _says(pulse: PulseView, lag: LagReport | None, parts: Parts | None) -> list[str]:
    says = [f"{pulse.decisions_now:.1f} decisions a second."]
    if parts is not None and parts.workers == ():
        says.append("No worker runs: nothing is decided.")
    elif parts is not None and parts.unserved:
        says.append(f"{many(len(parts.unserved), 'partition')} without a worker.")
    says.append("How far its readers are is not known now." if lag is None else lag.says)
    return says
