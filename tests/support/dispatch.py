"""One command of a dispatcher, run for real: a slot with a shell script, a routed task, and the end of its job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from schemas.events import TaskRouted
from streams.clock import SystemClock
from streams.dispatch.fleet import FleetFile, FleetSlot, SlotGroup, fleet_of
from streams.dispatch.job import Ended, Job
from streams.dispatch.slot_folder import SlotFolder


def routed(**fields: Any) -> TaskRouted:
    """Give a task on slot `s` under lease 3."""
    fixed: dict[str, Any] = {
        "decision_id": "d-1",
        "task_id": "t-1",
        "pool": "agents",
        "slot_id": "s",
        "model": "haiku",
        "tier": 1,
        "lease": 3,
        "lease_expires_at": "2026-11-29T10:30:00.000Z",
        "max_tokens": 1024,
        "reason": "Lowest capable tier.",
        "attempt": 2,
        "decided_at": "2026-11-29T10:00:00.000Z",
        "mode": "live",
        "policy": "p",
        "catalog": "c",
    }
    return TaskRouted(**fixed | fields)


def slot(tmp_path: Path, **runs: Any) -> FleetSlot:
    """Give a slot that runs something, with the environment of a plain shell."""
    file = FleetFile(pool="agents", slot=(SlotGroup(id="s", model="haiku", **runs),))
    return fleet_of(file, base=tmp_path, outer={"PATH": f"{tmp_path}:/bin:/usr/bin"}).slots[0]


class Bench:
    """A slot's folder with its lock, and jobs on it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.folder = SlotFolder(tmp_path / "dispatch", "agents", "s")
        assert self.folder.lock()

    def job(self, exec_line: str = "", *, task: TaskRouted | None = None, **runs: Any) -> Job:
        """Give a job that was not begun."""
        what = {"exec": exec_line} if exec_line else {}
        return Job(slot(self.tmp_path, **what, **runs), task or routed())

    async def run(self, job: Job, *, logs_keep: int = 50, log_bytes_max: int = 1_000_000) -> Ended:
        """Run a job to its end."""
        return await job.run(self.folder, SystemClock(), logs_keep=logs_keep, log_bytes_max=log_bytes_max)
