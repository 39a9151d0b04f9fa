"""A worker place."""

from __future__ import annotations

WINDOW_MS = 5 * 60_000


class Slot:
    """A slot in service, or a retired one that still holds a task."""

    def __init__(self, id_: str, model: str, account: str | None, lease: int, since_ms: int) -> None:
        self.id, self.model, self.account, self.lease, self.since_ms = id_, model, account, lease, since_ms
        self.state, self.retired, self.task_id, self.expires_ms = "free", False, "", 0
        self.renewals_left = 0
        self.ttl_ms: int | None = None
        #: When it was busy: [from, to], an open end is None.
        self.busy: list[list[int | None]] = []

    @property
    def cell(self) -> tuple[str, str | None]:
        """What gates look at."""
        return self.model, self.account

    def busy_ms(self, now_ms: int) -> int:
        """How long it was busy in the last five minutes."""
        spans = [(max(start or 0, now_ms - WINDOW_MS), now_ms if end is None else end) for start, end in self.busy]
        return sum(max(0, end - start) for start, end in spans)
