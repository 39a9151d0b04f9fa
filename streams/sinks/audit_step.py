"""The part of a step that the audit stores. The rest of the record is skipped while decoding; the hash is of all of it.

Decoding is half of a row's cost, and half of a step are rows that only the router uses.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from schemas.decision import ControlTaken, Decision, MoneyMovement, WorkDone
from schemas.steps import decode_step_by
from schemas.vocabulary import Millis, Mode


class Asked(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Fields of a task's event that the gates read."""

    requires: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int | None = None
    quest_priority: int = 0
    floor_model: str | None = None
    max_tier: int | None = None
    allow_providers: tuple[str, ...] = ()
    deny_providers: tuple[str, ...] = ()
    local_only: bool = False
    #: Models that rules of plug-ins refuse, with their sentences.
    refused: dict[str, str] = {}


class AskedBy(Asked, frozen=True, kw_only=True, gc=False):
    """The same fields, with task and pool."""

    task_id: str
    pool: str


class Advised(Struct, frozen=True, gc=False):
    """Refusals by rules of plug-ins, from when the task arrived."""

    refused: dict[str, str] = {}


class TakenIn(Struct, frozen=True, gc=False):
    """A task that the step accepted."""

    task: AskedBy
    advice: Advised | None = None

    def asked(self) -> Asked:
        """Return the fields without task and pool, and with the refusals."""
        task = self.task
        return Asked(
            requires=task.requires,
            input_tokens=task.input_tokens,
            output_tokens=task.output_tokens,
            quest_priority=task.quest_priority,
            floor_model=task.floor_model,
            max_tier=task.max_tier,
            allow_providers=task.allow_providers,
            deny_providers=task.deny_providers,
            local_only=task.local_only,
            refused=self.advice.refused if self.advice is not None else {},
        )


class AuditStep(Struct, frozen=True, kw_only=True, gc=False):
    """The stored part of a step."""

    partition: int
    seq: int
    now_ms: Millis
    mode: Mode = "live"
    policy: str
    catalog: str
    #: Only their number is stored.
    inputs: tuple[Raw, ...] = ()
    rejected: tuple[Raw, ...] = ()
    decisions: tuple[Decision, ...] = ()
    tasks: tuple[TakenIn, ...] = ()
    work: tuple[WorkDone, ...] = ()
    controls: tuple[ControlTaken, ...] = ()
    money: tuple[MoneyMovement, ...] = ()

    @property
    def rows(self) -> int:
        """Number of its rows, its own included."""
        return 1 + len(self.decisions) + len(self.work) + len(self.controls) + len(self.money)


_AUDIT_STEPS: Final = msgspec.json.Decoder(AuditStep)


def read_audit_step(raw: bytes) -> AuditStep:
    """Read the stored part of a journal record.

    Raises:
        StepError: the record is of another version, or no step at all.
    """
    return decode_step_by(_AUDIT_STEPS, raw)
