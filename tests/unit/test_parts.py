"""What `check` says of workers and audit: what is missing, what needs a person, and how far the audit is behind."""

from __future__ import annotations

import pytest

from streams.operate.parts import _assigned, _behind
from streams.views.parts import AuditView, Parts, WorkerView, notes, parts_attention

WORKER = WorkerView(member="w-1", host="/10.0.0.1", partitions=(0, 1))
SPARE = WorkerView(member="w-2", host="/10.0.0.2", partitions=())


@pytest.mark.parametrize(
    ("parts", "want"),
    [
        pytest.param(Parts(workers=()), "No worker runs", id="no worker"),
        pytest.param(Parts(workers=(WORKER,), unserved=(2, 3)), "No worker has partition 2, 3", id="not all shared"),
        pytest.param(Parts(audit=AuditView(trouble="It is away.")), "does not answer: It is away.", id="no Postgres"),
        pytest.param(
            Parts(audit=AuditView(behind={5: 2, 1: 1})),
            "The audit is 3 steps behind the journal (1 in partition 1, 2 in partition 5)",
            id="a sink that does not write",
        ),
    ],
)
def test_what_does_not_work_is_one_sentence_for_a_person(parts: Parts, want: str) -> None:
    """Nothing of it passes by itself."""
    (found,) = parts_attention(parts)
    assert want in found.says
    assert found.needs_person


def test_what_works_is_a_note() -> None:
    """A worker without partitions is a spare; who is unknown is not spoken of."""
    parts = Parts(workers=(WORKER, SPARE), audit=AuditView())
    assert list(parts_attention(parts)) == []
    assert list(notes(parts)) == [
        "2 workers; without partitions, as a spare: w-2.",
        "The audit has every step of the journal.",
    ]
    assert (list(notes(Parts())), list(parts_attention(Parts()))) == ([], [])


def test_the_audit_lacks_the_steps_behind_its_last() -> None:
    """A partition without rows lacks all; an audit that has read on since is not behind."""
    assert _behind({0: 4, 1: 3, 2: 0, 3: 5}, {0: 1, 3: 9}) == {0: 2, 1: 3}


def test_an_assignment_that_the_broker_leaves_out_is_unknown() -> None:
    """No bytes are no statement; what is no assignment is none either."""
    given = b"\0\0" + b"\0\0\0\1" + b"\0\5tasks" + b"\0\0\0\2" + b"\0\0\0\3" + b"\0\0\0\1" + b"\0\0\0\0"
    assert _assigned(given, "tasks") == (1, 3)
    assert _assigned(given, "others") == ()
    assert (_assigned(b"", "tasks"), _assigned(b"\0", "tasks")) == (None, None)
