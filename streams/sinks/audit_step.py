"""The part of a step that the audit keeps; the rest of the record is skipped while decoding, and hashed all the same.

Decoding is half of what a row costs the sink, and half of a step are rows of the router's own memory.
"""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Raw, Struct

from schemas.decision import ControlTaken, Decision, MoneyMovement, WorkDone
from schemas.steps import decode_step_by
from schemas.vocabulary import Millis, Mode


class Asked(Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What the gates look at of a task, as its event says it."""

    requires: dict[str, int] = {}
    input_tokens: int = 0
    output_tokens: int | None = None
    quest_priority: int = 0
    floor_model: str | None = None
    max_tier: int | None = None
    allow_providers: tuple[str, ...] = ()
    deny_providers: tuple[str, ...] = ()
    local_only: bool = False
    #: Models that plugged-in rules keep it from, with their sentences.
    refused: dict[str, str] = {}


class AskedBy(Asked, frozen=True, kw_only=True, gc=False):
    """The same, with the task that asks."""

    task_id: str
    pool: str


class Advised(Struct, frozen=True, gc=False):
    """What plugged-in rules said of a task when it came."""

    refused: dict[str, str] = {}


class TakenIn(Struct, frozen=True, gc=False):
    """A task that the step took in."""

    task: AskedBy
    advice: Advised | None = None

    def asked(self) -> Asked:
        """What was asked, without who asked."""
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
    """A step, as far as it is kept."""

    partition: int
    seq: int
    now_ms: Millis
    mode: Mode = "live"
    policy: str
    catalog: str
    #: Counted only.
    inputs: tuple[Raw, ...] = ()
    rejected: tuple[Raw, ...] = ()
    decisions: tuple[Decision, ...] = ()
    tasks: tuple[TakenIn, ...] = ()
    work: tuple[WorkDone, ...] = ()
    controls: tuple[ControlTaken, ...] = ()
    money: tuple[MoneyMovement, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows it makes, its own included."""
        return 1 + len(self.decisions) + len(self.work) + len(self.controls) + len(self.money)


_AUDIT_STEPS: Final = msgspec.json.Decoder(AuditStep)


def read_audit_step(raw: bytes) -> AuditStep:
    """Read what is kept of a journal record.

    Raises:
        StepError: the record is of another version, or no step at all.
    """
    return decode_step_by(_AUDIT_STEPS, raw)
