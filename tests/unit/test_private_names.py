"""Every private name of Faust and aiokafka that is overridden or used exists, with the signature that is expected.

The versions are pinned. A raised pin fails here, and not in a worker that loses records.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.record import default_records, memory_records
from faust.stores.memory import Store
from faust.transport import consumer as base
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.app import App
from streams.kafka.lenient_headers import Records
from streams.kafka.transport import Consumer, ConsumerThread, Transport
from streams.worker import _Worker
from tests.support.faust_rig import faust_rig

ROOT = Path(__file__).parents[2]
PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

#: What is overridden: ours, theirs, and the parameters that theirs must have.
OVERRIDDEN: dict[str, tuple[type, type, list[str]]] = {
    "_create_worker_consumer": (ConsumerThread, driver.AIOKafkaConsumerThread, ["self", "transport"]),
    "_fetch_records": (
        ConsumerThread,
        driver.AIOKafkaConsumerThread,
        ["self", "consumer", "active_partitions", "timeout", "max_records"],
    ),
    "on_thread_stop": (ConsumerThread, driver.AIOKafkaConsumerThread, ["self"]),
    "_new_consumer_thread": (Consumer, driver.Consumer, ["self"]),
    "getmany": (Consumer, driver.Consumer, ["self", "timeout"]),
    "seek_to_committed": (Consumer, driver.Consumer, ["self"]),
    "_new_offset": (Consumer, driver.Consumer, ["self", "tp"]),
    "_add_gap": (Consumer, driver.Consumer, ["self", "tp", "offset_from", "offset_to"]),
    "verify_event_path": (Consumer, driver.Consumer, ["self", "now", "tp"]),
    "_create_directories": (App, faust.App, ["self"]),
    "on_start": (App, faust.App, ["self"]),
    "_schedule_shutdown": (_Worker, faust.Worker, ["self", "signal"]),
    "_stop_on_signal": (_Worker, faust.Worker, ["self", "signal"]),
    "Consumer": (Transport, driver.Transport, []),
}

#: What is called: whose it is, and its parameters.
CALLED: dict[str, tuple[type, list[str]]] = {
    "_wait_next_records": (driver.Consumer, ["self", "timeout"]),
    "_to_message": (driver.Consumer, ["self", "tp", "record"]),
    "_set_active_tps": (driver.Consumer, ["self", "tps"]),
    "on_buffer_full": (driver.Consumer, ["self", "tp"]),
    "on_buffer_drop": (driver.Consumer, ["self", "tp"]),
    "seek_wait": (driver.Consumer, ["self", "partitions"]),
    "highwater": (driver.Consumer, ["self", "tp"]),
    "stop_flow": (driver.Consumer, ["self"]),
    "fetch_committed_offsets": (GroupCoordinator, ["self", "partitions"]),
    "fetch_all_metadata": (AIOKafkaClient, ["self"]),
    "partition_for_key": (faust.Table, ["self", "key"]),
    "crash": (faust.App, ["self", "reason"]),
    "_maybe_uncompress": (default_records._DefaultRecordBatchPy, ["self"]),
    "has_next": (memory_records.MemoryRecords, ["self"]),
    "size_in_bytes": (memory_records.MemoryRecords, ["self"]),
    "next_batch": (memory_records.MemoryRecords, ["self"]),
}


def parameters(function: Callable[..., Any]) -> list[str]:
    """Names of a function's parameters; of a compiled one, nothing is known but that it can be called."""
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:
        assert callable(function)
        return []


@pytest.mark.parametrize("package", PINNED)
def test_the_versions_are_those_that_were_looked_into(package: str) -> None:
    """Another one needs another look: at the tests of this file first."""
    assert version(package) == PINNED[package]
    assert f"{package}=={PINNED[package]} " in (ROOT / "requirements.lock").read_text()


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_what_is_overridden_is_still_there(name: str) -> None:
    """With the parameters that it had; an override without its original would never be called."""
    ours, theirs, want = OVERRIDDEN[name]
    assert name in vars(ours)
    if want:
        assert parameters(getattr(theirs, name)) == want
        assert parameters(getattr(ours, name)) == want
    assert hasattr(theirs, name)


@pytest.mark.parametrize("name", CALLED)
def test_what_is_called_is_still_there(name: str) -> None:
    """With the parameters that it had."""
    owner, want = CALLED[name]
    found = parameters(getattr(owner, name))
    assert found in (want, [])


def test_every_override_is_listed_here() -> None:
    """A further one needs a further row."""
    for ours, theirs in (
        (ConsumerThread, driver.AIOKafkaConsumerThread),
        (Consumer, driver.Consumer),
        (App, faust.App),
        (_Worker, faust.Worker),
    ):
        names = {name for name in vars(ours) if hasattr(theirs, name) and not name.startswith("__")}
        assert names - {"_abc_impl", "abstract", "logger"} <= set(OVERRIDDEN), ours


def test_every_private_name_that_is_used_is_known_here() -> None:
    """Of other objects than `self` in what stands on Faust and aiokafka."""
    files = [*(ROOT / "streams/kafka").glob("*.py"), ROOT / "streams/app.py", ROOT / "streams/worker.py"]
    used = {
        node.attr
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    }
    read = {"_fetch_max_wait_ms", "_thread", "_consumer", "_coordinator", "_buffer", "_client", "_group_instance_id"}
    known = {*OVERRIDDEN, *CALLED, *read}
    assert used <= known


async def test_attributes_of_a_consumer_are_still_there() -> None:
    """Those that are read or set, on instances made as a worker makes them."""
    async with faust_rig() as rig:
        consumer, tp = rig.consumer, TP("x.task.pending", 0)
        for name in ("_thread", "_buffered_partitions", "_acked", "_acked_index", "scheduler", "flow_active"):
            assert hasattr(consumer, name), name
        assert (consumer._acked[tp], consumer._acked_index[tp]) == ([], set())
        assert isinstance(consumer._new_consumer_thread(), base.ConsumerThread)
        assert hasattr(consumer._new_consumer_thread(), "_consumer")
        for name in ("consumer_generation_id", "rebalancing", "flow_control"):
            assert hasattr(rig.app, name), name
        assert callable(rig.app.flow_control.suspend)
        assert callable(rig.app.flow_control.clear)


async def test_attributes_of_aiokafkas_consumer_are_still_there() -> None:
    """The longest wait is read from the attribute when the consumer starts; no argument is passed on by Faust."""
    consumer = AIOKafkaConsumer(bootstrap_servers="127.0.0.1:9")
    assert consumer._fetch_max_wait_ms == 500
    assert consumer._coordinator is None
    await consumer.stop()
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)
    assert "self._coordination_task = " in inspect.getsource(GroupCoordinator)


def test_the_reader_of_records_can_be_replaced() -> None:
    """The fetcher looks the class up by its name in its own module, each time."""
    assert hasattr(fetcher, "MemoryRecords")
    assert "MemoryRecords(" in inspect.getsource(fetcher)
    theirs = {name for name in dir(memory_records.MemoryRecords) if not name.startswith("_")}
    assert {name for name in dir(Records) if not name.startswith("_")} >= theirs


def test_a_batch_reads_from_its_buffer() -> None:
    """Which is replaced by one that decodes leniently."""
    builder = default_records._DefaultRecordBatchBuilderPy(2, 0, 0, -1, -1, -1, 1000)
    builder.append(0, 0, b"k", b"v", [])
    batch = default_records._DefaultRecordBatchPy(bytes(builder.build()))
    assert isinstance(batch._buffer, (bytes, bytearray, memoryview))


async def test_a_row_can_be_taken_out_of_a_table_without_its_changelog() -> None:
    """A table's `data` is its store, and the store's `data` the dictionary."""
    async with faust_rig() as rig:
        table: Any = rig.app.tables["utilisation"]
        assert isinstance(table.data, Store)
        assert table.data.data == {}
