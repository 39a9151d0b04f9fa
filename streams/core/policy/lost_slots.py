"""What is said of lost slots: which they are, and what brings them back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

_NAMED_MAX: Final = 3
COMES_BACK: Final = "a slot comes back when it reports: with its latest lease, or by an announcement"


def lost_slots(slot_ids: Sequence[str], pool: str) -> str:
    """Return the first of these ids, and what to do; as the end of a sentence."""
    named = ", ".join(slot_ids[:_NAMED_MAX])
    more = f" and {len(slot_ids) - _NAMED_MAX} more" if len(slot_ids) > _NAMED_MAX else ""
    gone = f"slotwise retire {slot_ids[0]} --pool {pool}"
    return f"{named}{more}. {COMES_BACK[:1].upper()}{COMES_BACK[1:]}; one that is gone for good is retired: {gone}"
