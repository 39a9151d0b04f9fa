"""Of a journal the record with the next number counts; where a reader begins, and where it stops, is explicit."""

from __future__ import annotations

import pytest

from schemas.decision import Step
from schemas.steps import decode_step, encode_step
from streams.partition.ports import JournalPosition
from streams.partition.reader import JournalReader, RecordDamaged, StepsMissing
from tests.support.builders import step


def reader(offset: int = 0, seq: int = 0) -> JournalReader[Step]:
    """A reader that knows which step is next."""
    return JournalReader(0, decode_step, start=JournalPosition(offset, seq))


def accepted(given: JournalReader[Step], *seqs: int, first: int = 0) -> list[int]:
    """Read records with these numbers; return the offsets at which a step counted."""
    return [at for at, seq in enumerate(seqs, start=first) if given.take(at, encode_step(step(seq))) is not None]


def test_the_first_record_with_a_number_counts() -> None:
    """A later one with the same number is fenced."""
    given = reader()
    assert accepted(given, 0, 1, 1, 0, 2) == [0, 1, 4]
    assert (given.fenced, given.offset, given.seq) == (2, 5, 3)


def test_what_was_read_before_is_passed_over() -> None:
    """A record before the start is neither a step nor fenced, whatever it holds."""
    given = reader(offset=2, seq=2)
    assert given.take(1, b"rubbish") is None
    assert accepted(given, 0, 1, 2) == [2]
    assert given.fenced == 0


def test_a_gap_is_named_with_what_is_missing() -> None:
    """The reader stays where it was."""
    given = reader()
    accepted(given, 0)
    with pytest.raises(StepsMissing, match="from step 0 to step 3 at offset 1: steps 1 to 2 are missing") as gap:
        given.take(1, encode_step(step(3)))
    assert (gap.value.wanted, gap.value.got, gap.value.offset) == (1, 3, 1)
    assert (given.offset, given.seq) == (1, 1)


@pytest.mark.parametrize(
    ("value", "want"),
    [
        (b"", "is no step"),
        (b'{"v":1,"seq":', "is no step"),
        (b'{"v":99,"seq":0}', "version 99"),
        (encode_step(step(0, partition=3)), "It is a step of partition 3"),
    ],
    ids=["empty", "torn", "another version", "another partition"],
)
def test_a_damaged_record_is_named_with_its_place(value: bytes, want: str) -> None:
    """It may have been the next step."""
    with pytest.raises(RecordDamaged, match=want) as damaged:
        reader().take(7, value)
    assert (damaged.value.partition, damaged.value.offset, damaged.value.wanted) == (0, 7, 0)


def test_who_joins_in_the_middle_learns_the_number_from_the_records_before() -> None:
    """The highest of them was accepted, even where the last is fenced; from there on the next number counts."""
    given = JournalReader.joining(0, decode_step, offset=3)
    assert accepted(given, 7, 8, 7, 8, 9) == [4]
    assert given.fenced == 1


def test_who_joins_where_the_journal_begins_takes_its_first_record() -> None:
    """Retention removed the records before it; at offset 0 the number is known."""
    assert accepted(JournalReader.joining(0, decode_step, offset=3), 9, 10, first=3) == [3, 4]
    with pytest.raises(StepsMissing):
        accepted(JournalReader.joining(0, decode_step, offset=0), 9)
