"""A record that a broker took can be read, whatever its headers are called."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatchBuilder, _DefaultRecordBatchBuilderPy
from aiokafka.record.memory_records import MemoryRecords

from streams.kafka.lenient_headers import Records


class Nameless(str):
    """A header name that no encoding has."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        """Bytes that are not UTF-8."""
        return b"\xff\xfe"


def batch(*values: bytes, name: str = "h", gzip: bool = False) -> bytes:
    """A batch as it travels."""
    kind = _DefaultRecordBatchBuilderPy if isinstance(name, Nameless) else DefaultRecordBatchBuilder
    builder = kind(2, 1 if gzip else 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0,
                   batch_size=100_000)  # fmt: skip
    for offset, value in enumerate(values):
        builder.append(offset, 1000 + offset, key=b"k", value=value, headers=[(name, b"v")])
    return bytes(builder.build())


def test_a_header_name_that_is_no_text_is_given_with_escapes() -> None:
    """In the second of three batches, compressed or not; its neighbours are as they were."""
    for gzip in (False, True):
        data = batch(b"a", b"b") + batch(b"c", b"d", name=Nameless("x"), gzip=gzip) + batch(b"e")
        records = Records(data)
        assert records.size_in_bytes() == len(data)
        read = []
        while records.has_next():
            read.append([(one.value, one.key, tuple(one.headers)) for one in records.next_batch()])
        strange = (("\udcff\udcfe", b"v"),)
        percentiles = (("h", b"v"),)
        assert read == [
            [(b"a", b"k", percentiles), (b"b", b"k", percentiles)],
            [(b"c", b"k", strange), (b"d", b"k", strange)],
            [(b"e", b"k", percentiles)],
        ]


def test_an_ordinary_batch_looks_as_it_does_to_aiokafka() -> None:
    """Offsets, times and what the fetcher asks of a batch."""
    data = batch(b"a", b"b", b"c")
    ours, theirs = Records(data).next_batch(), MemoryRecords(data).next_batch()
    assert (ours.base_offset, ours.next_offset, ours.is_control_batch, ours.validate_crc()) == (0, 3, False, True)
    assert [(one.offset, one.timestamp, one.value) for one in ours] == [
        (one.offset, one.timestamp, one.value) for one in theirs
    ]
