"""The first place where a recorded step and its derivation differ, with both sides and the decision that it is in."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from msgspec import Struct

from schemas.steps import decode_step, encode_step
from schemas.vocabulary import INPUT_TOPICS
from streams.replay.recorded_step import RecordedStep, handled

#: Differences here say that other rules decided, not that the same rules decided otherwise.
RULES: Final = ("policy", "catalog")
_DECISION: Final = re.compile(r"decisions\[(\d+)\]")


class Difference(Struct, frozen=True, kw_only=True):
    """Where a step and its derivation differ first."""

    seq: int
    #: Of the step's record in the journal.
    offset: int
    #: Where in the step's JSON, such as `decisions[0].chosen_slot_id`; empty: no step could be derived.
    path: str
    #: The values there, as JSON has them; None also where the place does not exist.
    journaled: Any
    derived: Any
    #: Pool and task of the decision that it is in; None: it is in none.
    pool: str | None = None
    task_id: str | None = None
    #: The step's inputs: topic, first and last offset.
    inputs: tuple[tuple[str, int, int], ...] = ()
    #: Hashes of the rules that decided, by the journal.
    policy: str = ""
    catalog: str = ""

    @property
    def is_of_rules(self) -> bool:
        """Whether other rules decided."""
        return self.path in RULES


def first_difference(recorded: RecordedStep, derived: bytes) -> Difference | None:
    """Compare a step with the bytes of its derivation, in the present layout; None where they are the same.

    Raises:
        StepError: the recorded step cannot be read whole.
    """
    journaled = encode_step(decode_step(recorded.raw))
    if derived == journaled:
        return None
    before, after = json.loads(journaled), json.loads(derived)
    path, there, here = _differing("", before, after) or ("", None, None)
    decision: dict[str, Any] = {}
    if place := _DECISION.match(path):
        decision = next(
            (side["decisions"][int(place[1])] for side in (before, after) if int(place[1]) < len(side["decisions"])),
            {},
        )
    return difference_at(recorded, path, there, here, pool=decision.get("pool"), task_id=decision.get("task_id"))


def difference_at(
    recorded: RecordedStep,
    path: str,
    journaled: Any,
    derived: Any,
    *,
    pool: str | None = None,
    task_id: str | None = None,
) -> Difference:
    """Make the difference at a place of a step."""
    return Difference(
        seq=recorded.seq,
        offset=recorded.offset,
        path=path,
        journaled=journaled,
        derived=derived,
        pool=pool,
        task_id=task_id,
        inputs=tuple((INPUT_TOPICS[topic], *ends) for topic, ends in enumerate(handled([recorded])) if ends),
        policy=recorded.policy,
        catalog=recorded.catalog,
    )


def _differing(path: str, journaled: Any, derived: Any) -> tuple[str, Any, Any] | None:
    if isinstance(journaled, dict) and isinstance(derived, dict):
        for name in dict.fromkeys([*journaled, *derived]):
            inner = f"{path}.{name}" if path else name
            if found := _differing(inner, journaled.get(name), derived.get(name)):
                return found
        return None
    if isinstance(journaled, list) and isinstance(derived, list):
        for place in range(max(len(journaled), len(derived))):
            before, after = (side[place] if place < len(side) else None for side in (journaled, derived))
            if found := _differing(f"{path}[{place}]", before, after):
                return found
        return None
    return None if journaled == derived else (path, journaled, derived)
