"""How a task that ran ends: as its slot reported, cancelled while it ran, or given up after its last attempt."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from schemas.decision import TaskRow
from schemas.vocabulary import Millis
from streams.core.step.draft import Late, PoolDraft


def finish_as_reported(
    draft: PoolDraft,
    row: TaskRow,
    result: Literal["success", "cancelled"],
    slot_id: str,
    now_ms: Millis,
    late: Late | None = None,
) -> None:
    """End the task as the slot that worked on it says."""
    reason = "" if result == "success" else f"{slot_id} reported that the work was cancelled."
    draft.finish(row, result, now_ms, reason, late)


def finish_cancelled(draft: PoolDraft, row: TaskRow, now_ms: Millis) -> None:
    """End a task that was cancelled while it ran, whatever its slot reports."""
    by = next((one.detail for one in reversed(row.status.history) if one.what == "cancelled"), "")
    draft.finish(row, "cancelled", now_ms, f"Cancelled{f' by {by}' if by else ''} while it ran.")


def give_up(draft: PoolDraft, row: TaskRow, detail: str, now_ms: Millis, late: Late | None = None) -> None:
    """End a task without success, as a dead letter with its history."""
    # Its payload stands in the journal once, where it was accepted.
    draft.dead.append(replace(row, task=replace(row.task, payload=None)))
    draft.end(row, "dead_lettered", detail, now_ms, late)
