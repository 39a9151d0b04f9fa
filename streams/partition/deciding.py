"""One step for some received records: asked of the state machine and encoded, or why there can be none."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from msgspec.structs import replace

from schemas.input import NOT_DECIDED, Unreadable
from schemas.steps import encode_step
from schemas.vocabulary import INPUT_TOPICS, Millis
from streams import metrics
from streams.partition.ports import PartitionError
from streams.partition.received import Received, with_times

if TYPE_CHECKING:
    from schemas.decision import Step
    from streams.core.policy.rulebook import Rulebook
    from streams.partition.ports import Limits, StateMachine

_log = logging.getLogger(__name__)


def decide(
    partition: int, machine: StateMachine, received: list[Received], clock_ms: Millis, limits: Limits, journal_id: str
) -> tuple[Step, bytes] | str:
    """Return the step and its encoding, or the problem if there can be none for these records together."""
    began_s = time.perf_counter()
    try:
        inputs = with_times(received, now_ms=machine.now_ms, clock_ms=clock_ms, ahead_ms_max=limits.now_ahead_ms_max)
        step = replace(machine.handle(inputs), journal=journal_id)
        value = encode_step(step)
    except Exception as error:  # noqa: BLE001 - whatever a pure function raises stays in the worker
        _log.warning("partition %d: the router failed on %d inputs from %s@%d", partition, len(received),
                     INPUT_TOPICS[received[0].topic], received[0].raw.offset, exc_info=len(received) == 1)  # fmt: skip
        return f"the router failed on it: {error!r}"
    metrics.DECISION_SECONDS.observe((time.perf_counter() - began_s) / len(received))
    if len(value) > limits.step_bytes_max:
        return f"its step has {len(value)} bytes, and {limits.step_bytes_max} are allowed"
    return step, value


def refused(partition: int, one: Received, problem: str) -> Received:
    """Return the same input as one to be rejected, so that the position moves on.

    Raises:
        PartitionError: it is one already, and there is no step even for its rejection.
    """
    if isinstance(one.event, Unreadable):
        raise PartitionError(
            f"{INPUT_TOPICS[one.topic]}[{partition}]@{one.raw.offset} cannot even be rejected: {problem}. "
            "Report this with the record and the partition's last journal records."
        )
    metrics.INVARIANT_VIOLATIONS.labels("router_raised").inc()
    return one._replace(event=Unreadable(f"{NOT_DECIDED}{problem}."))


def warn_if_overridden(partition: int, files: Rulebook, in_force: Rulebook) -> None:
    """Log that an activated policy overrides the worker's files, if it does."""
    if (in_force.policy_hash, in_force.catalog_hash) != (files.policy_hash, files.catalog_hash):
        _log.warning(
            "partition %d decides by the activated policy %s (catalogue %s); the file's is %s (%s): "
            "`slotwise policy activate` to change",
            partition, in_force.policy_hash, in_force.catalog_hash, files.policy_hash, files.catalog_hash,
        )  # fmt: skip
