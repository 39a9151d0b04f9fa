"""What a record of the journal is, and whether an operator may have it passed over."""

from __future__ import annotations

import pytest

from schemas.skips import Skip, encode_skip
from schemas.steps import encode_step
from streams.operate.journal_records import judge
from tests.support.builders import step

STEP = encode_step(step(7))
MINE = STEP.replace(b'"seq":7', b'"seq":7,"journal":"one"')
CASES = {
    "another program's": (b"hello", "no step: ", None),
    "a step cut short": (STEP[:40], "no step, but it begins as one: ", None),
    "of another partition": (encode_step(step(7, partition=3)), "step 7 of partition 3", None),
    "of another journal": (MINE.replace(b'"one"', b'"two"'), "step 7 of the journal two", None),
    "a step": (STEP, "step 7 of this partition", "has happened: it is never"),
    "a step with this journal's id": (MINE, "step 7 of this partition", "has happened: it is never"),
    "a newer version's step": (
        STEP.replace(b'{"v":2,', b'{"v":99,'),
        "step 7 of this partition, which",
        "has happened",
    ),
    "a note": (
        encode_skip(Skip(skip=3, partition=0, sha256="0", reason="r", by="b", at="t")),
        "a note that skips offset 3",
        "passes over it already",
    ),
}


@pytest.mark.parametrize(("value", "what", "refusal"), CASES.values(), ids=CASES.keys())
def test_what_a_record_is_decides_whether_it_may_be_passed_over(value: bytes, what: str, refusal: str | None) -> None:
    """What a step of this partition says has happened; what is none may be, with a warning where it looks like one."""
    said, refused = judge(0, value, "one")
    assert said.startswith(what)
    assert (refused is None) == (refusal is None)
    assert refusal is None or refusal in str(refused)
