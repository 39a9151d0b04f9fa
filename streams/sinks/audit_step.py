"""The part of a step that the audit stores. The rest of the record is skipped while decoding; the hash is of all of it.

Decoding is half of a row's cost, and half of a step are rows that only the router uses.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final

import msgspec
from msgspec import NODEFAULT, Raw, Struct, defstruct

from schemas.decision import ControlTaken, Decision, Duplicate, MoneyMovement, WorkDone
from schemas.events import TaskPending
from schemas.steps import decode_step_by
from schemas.vocabulary import Millis, Mode
from streams.core.policy.rules import RULES

#: Fields of a task's event by which all shapes differ and the queue is ordered, and which no column of a decision has.
_ALWAYS: Final = ("requires", "input_tokens", "output_tokens", "quest_priority")
_BY_NAME: Final = {one.name: one for one in msgspec.structs.fields(TaskPending)}
#: Fields of a task's event that the gates read.
_ASKED: Final = [_BY_NAME[name] for name in dict.fromkeys(chain(_ALWAYS, *(rule.task_fields for rule in RULES)))]
_DEFAULTS: Final = tuple(
    (one.name, one.default_factory() if one.default_factory is not NODEFAULT else one.default) for one in _ASKED
)

if TYPE_CHECKING:
    AskedBy = TaskPending
else:  # the same event, of which only these fields are decoded
    AskedBy = defstruct(
        "AskedBy",
        [("task_id", str), ("pool", str), *((name, _BY_NAME[name].type, default) for name, default in _DEFAULTS)],
        frozen=True,
        kw_only=True,
        gc=False,
    )


class Advised(Struct, frozen=True, gc=False):
    """Refusals by rules of plug-ins, from when the task arrived."""

    refused: dict[str, str] = {}


class TakenIn(Struct, frozen=True, gc=False):
    """A task that the step accepted."""

    task: AskedBy
    advice: Advised | None = None

    def asked(self) -> dict[str, Any]:
        """Return what the gates read: fields that are not the default; `refused`: models, with sentences."""
        task = self.task
        asked = {name: value for name, default in _DEFAULTS if (value := getattr(task, name)) != default}
        if self.advice is not None and self.advice.refused:
            asked["refused"] = self.advice.refused
        return asked


class AuditStep(Struct, frozen=True, kw_only=True, gc=False):
    """The stored part of a step."""

    journal: str | None = None
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
    duplicates: tuple[Duplicate, ...] = ()

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
