"""What falls due comes in order of time, only if it still holds, and is there again after a decision."""

from __future__ import annotations

import pytest

from schemas.vocabulary import Millis
from streams.core.index.due import Due, DueList
from streams.core.index.undo import Undo
from tests.support.builders import START_MS, rulebook, task
from tests.support.router_rig import RouterRig

LEASE: Due = (Millis(START_MS + 5_000), "lease", "haiku-1", 1)
DEADLINE: Due = (Millis(START_MS + 4_000), "deadline", "waits", 1)
DELAYED: Due = (Millis(START_MS + 3_000), "due", "delayed", 1)
LATER: Due = (Millis(START_MS + 10_001), "due", "later", 1)


@pytest.mark.parametrize(
    ("pushed", "due"),
    [
        ([], []),
        ([LEASE, DEADLINE, DELAYED], [DELAYED, DEADLINE, LEASE]),
        ([(LEASE[0], "lease", "haiku-1", 0)], []),
        ([(LEASE[0], "lease", "haiku-2", 1)], []),
        ([(DEADLINE[0], "deadline", "waits", 2)], []),
        ([(DEADLINE[0], "deadline", "runs", 1)], []),
        ([(DELAYED[0], "due", "waits", 1)], []),
        ([(DEADLINE[0] - 1, "deadline", "waits", 1)], []),
        ([(LEASE[0] - 1, "lease", "haiku-1", 1)], []),
        ([LATER], []),
    ],
    ids=[
        "nothing",
        "in order of time",
        "an earlier lease",
        "no such slot",
        "a later attempt",
        "a running task has no deadline",
        "a waiting task is not delayed",
        "another deadline",
        "a limit that has moved",
        "later than now",
    ],
)
def test_what_is_due_within_ten_seconds(pushed: list[Due], due: list[Due]) -> None:
    """`runs` holds lease 1 of haiku-1, `waits` waits until its deadline, `delayed` is delayed."""
    rig = RouterRig("haiku-1", book=rulebook(leases={"default_s": 5.0}))
    rig.hand_in(
        task("runs", ev=9.0),
        task("waits", ev=1.0, deadline_ms=DEADLINE[0]),
        task("delayed", not_before_ms=DELAYED[0]),
        task("later", not_before_ms=LATER[0]),
    )
    undo = Undo()
    index = DueList(rig.router.state.pool("main"), undo)
    for item in pushed:
        index.push(item)
    for _ in range(2):
        assert list(iter(lambda: index.pop(Millis(START_MS + 10_000)), None)) == due
        undo.run()
