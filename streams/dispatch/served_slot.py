"""What a dispatcher knows of one of its slots at the moment, and what happens to it, as values to show."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from schemas.events import Outcome, TaskRouted
from schemas.vocabulary import StopReason
from streams.dispatch.fleet import FleetSlot
from streams.dispatch.job import Job
from streams.dispatch.slot_folder import SlotFolder

EventKind = Literal[
    "waiting", "announced", "begun", "stopping", "ended", "reported", "draining", "left", "trouble", "recovered"
]
SlotState = Literal["starting", "free", "working", "stopping", "left"]


class Happened(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that happened; on the wire of `--json` a line each."""

    at: str
    event: EventKind
    pool: str = ""
    slot_id: str = ""
    task_id: str = ""
    decision_id: str = ""
    lease: int | None = None
    attempt: int | None = None
    exit_code: int | None = None
    #: Of `reported`: the outcome's; `none`: the work was stopped, and its task is pending again.
    status: str = ""
    error_class: str = ""
    latency_s: float | None = None
    cost_usd: float | None = None
    #: Why work is stopped, the broker does not answer, or something was left out.
    reason: str = ""
    notes: tuple[str, ...] = ()
    log: str = ""


class ServedSlot:
    """A slot in service, with the job that runs on it."""

    def __init__(self, slot: FleetSlot, folder: SlotFolder) -> None:
        self.slot = slot
        self.folder = folder
        self.announced = False
        self.left = False
        self.job: Job | None = None
        #: Why the job is being stopped; None: it is not.
        self.stopping: StopReason | None = None
        self.succeeded = 0
        self.failed = 0
        #: The last task that ended, and how.
        self.last = ""

    @property
    def key(self) -> tuple[str, str]:
        """What the slot is known by."""
        return self.slot.spec.pool, self.slot.spec.slot_id

    @property
    def task(self) -> TaskRouted | None:
        """What it works on."""
        return self.job.routed if self.job is not None else None

    @property
    def state(self) -> SlotState:
        """Its state in a word."""
        if self.job is not None:
            return "working" if self.stopping is None else "stopping"
        if self.left:
            return "left"
        return "free" if self.announced else "starting"

    def count(self, task: TaskRouted, outcome: Outcome | None) -> None:
        """Note how work ended."""
        if outcome is None:
            self.last = f"{task.task_id}: stopped"
            return
        self.succeeded += outcome.status == "success"
        self.failed += outcome.status == "failure"
        self.last = f"{task.task_id}: {outcome.error_class or outcome.status}"
