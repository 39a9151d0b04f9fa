"""Invariants of the state, checked over all rows. For tests and tools."""

from __future__ import annotations

from streams.core.state.partition import Partition


class InvariantBroken(Exception):
    """The state contradicts itself. The message names the invariant and the rows; keep the journal and report it."""


def check(state: Partition) -> None:
    """Check every invariant of a state.

    Raises:
        InvariantBroken: at the first contradiction.
    """
    for pool in state.pools.values():
        leased = {slot.task_id: slot for slot in pool.slots.values() if slot.state == "leased"}
        for slot in pool.slots.values():
            if slot.pool != pool.name:
                raise InvariantBroken(f"slot {slot.slot_id} of pool {slot.pool} stands in pool {pool.name}")
            if (slot.state == "leased") != (slot.task_id is not None):
                raise InvariantBroken(f"I1: slot {slot.slot_id} is {slot.state} with task {slot.task_id}")
            if slot.state == "leased" and (slot.lease < 1 or slot.lease_expires_at_ms is None):
                raise InvariantBroken(f"I8: slot {slot.slot_id} holds {slot.task_id} without a lease that ends")
        if len(leased) != sum(slot.state == "leased" for slot in pool.slots.values()):
            raise InvariantBroken(f"I1: two slots of pool {pool.name} hold the same task")
        for task_id, row in pool.tasks.items():
            status = row.status
            if task_id in pool.finished:
                raise InvariantBroken(f"I2: task {task_id} is finished and {status.state}")
            slot_of = leased.get(task_id)
            if (status.state == "running") != (slot_of is not None):
                raise InvariantBroken(f"I1: task {task_id} is {status.state}, on slot {slot_of and slot_of.slot_id}")
            if slot_of is not None and (slot_of.lease, slot_of.slot_id) != (status.lease, status.slot_id):
                raise InvariantBroken(f"I1: task {task_id} and slot {slot_of.slot_id} disagree on the lease")
            if status.state == "waiting" and status.headline is None:
                raise InvariantBroken(f"task {task_id} waits without a reason")
        for lost_id, holder in leased.items():
            if lost_id not in pool.tasks:
                raise InvariantBroken(f"I1: slot {holder.slot_id} holds {lost_id}, which is not there")
