"""Ids of decisions, derived from the position in the journal: a replay gives the same ids."""

from __future__ import annotations

import hashlib
from typing import Final

#: UUIDv5 namespace: uuid5(NAMESPACE_URL, "slotwise:decision").
_NAMESPACE: Final = hashlib.sha1(bytes.fromhex("97124e7c66b456fe92c958bfcfba1e4e"), usedforsecurity=False)
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}


def decision_id(pool: str, seq: int, task_id: str, life: int = 0) -> str:
    """Return the UUIDv5 of pool, seq and task; a task that ended in the step and was sent again has another `life`."""
    digest = _NAMESPACE.copy()
    digest.update((f"{pool}/{seq}/{task_id}/{life}" if life else f"{pool}/{seq}/{task_id}").encode())
    text = digest.hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"
