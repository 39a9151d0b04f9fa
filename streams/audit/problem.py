"""A broken promise, as data: which one, where, and in a sentence for the person who must act."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from msgspec import Struct

Promise = Literal[
    "journal", "lease", "conservation", "once", "service", "idle", "expiry", "stored", "chain", "published", "money",
    "controls", "derived", "state",
]  # fmt: skip

#: What each promise means. The numbers in brackets are those of the invariants in docs/audit.md.
PROMISES: Final[Mapping[Promise, str]] = {
    "journal": "Each partition's steps are numbered without a gap.",
    "lease": "No slot is leased to two tasks at once, and lease numbers grow by one (I1).",
    "conservation": "Every input is handled, and every task stands in exactly one place until it is finished (I2).",
    "stored": "Every step and every decision of the journal stands in Postgres once, unchanged (I3).",
    "derived": "The same inputs under the same rules give the same steps, byte by byte (I4).",
    "once": "No input is handled twice, no finished task id is accepted again while it is remembered (I5).",
    "service": "No task that has waited to patience is passed over by one with fewer points (I6).",
    "idle": "No slot stays free beside a waiting task that may use it (I7).",
    "state": "The newest checkpoint and the steps behind it give the state that the whole journal gives (I9).",
    "expiry": "No lease outlives its end (I8).",
    "chain": "The chain of hashes in Postgres has no broken link (I10).",
    "published": "Every decision was published at least once.",
    "money": "available + reserved + consumed = credited in every ledger, and every movement is in it.",
    "controls": "Each control event is taken once by a partition.",
}


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One broken promise."""

    promise: Promise
    says: str
    partition: int | None = None
    #: The step at which it showed; None: at the end, or outside the journal.
    seq: int | None = None
