"""A process that is asked to stop while its broker is away ends soon, with a sentence; nothing is lost."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from streams.local.own_parts import environment
from streams.local.process import plain_environment
from tests.support.installation import ROOT, Installation, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from streams.local.kafka import ApacheKafka

#: Twice as long as it may take; without a bound it took a minute.
ENDS_S = 20.0


@contextmanager
def away(broker: ApacheKafka, how: signal.Signals) -> Iterator[None]:
    """Take the broker away, by force or frozen, and bring it back."""
    pid = broker.pid
    assert pid is not None
    if how is signal.SIGKILL:
        broker.kill()
    else:
        os.kill(pid, how)
    try:
        yield
    finally:
        if how is signal.SIGKILL:
            broker.start()
        else:
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("noticed", [False, True])
async def test_a_worker_ends_without_its_broker(
    apache_kafka: ApacheKafka, tmp_path: Path, how: signal.Signals, noticed: bool
) -> None:
    """At once and when it has been trying for a while; with tasks in its hands, all of which are worked off later."""
    async with Installation(apache_kafka.address, tmp_path) as installation:
        worker = installation.worker()
        await installation.slots(1, pools=2)
        await worker.ready(2)
        await installation.tasks(40, pools=2)
        with away(apache_kafka, how):
            if noticed and how is signal.SIGKILL:

                async def complains() -> bool:
                    return "trying again" in worker.log_file.read_text() or "Unable connect" in worker.log()

                await until("the worker notices", complains)
            worker.signal(signal.SIGTERM)
            assert await asyncio.to_thread(worker.process.wait, ENDS_S) == 0, worker.log()
        said = worker.log_file.read_text()
        assert said.splitlines()[-1].startswith(f"The broker at {apache_kafka.address} does not answer, and this")
        assert "Traceback" not in said
        again = installation.worker()
        async with installation.fleet():
            await again.ready(2)
            await installation.worked_off()
        assert await again.stop() == 0, again.log()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_sink_ends_without_its_broker(apache_kafka: ApacheKafka, tmp_path: Path, how: signal.Signals) -> None:
    """What it has not written it reads again: each step stands in the file once."""
    async with Installation(apache_kafka.address, tmp_path) as installation:
        await installation.worker().ready(2)
        await installation.tasks(20, pools=2)
        await installation.sound()
        file, log = tmp_path / "journal.jsonl", tmp_path / "sink.log"

        def start() -> subprocess.Popen[bytes]:
            settings = replace(installation.settings, data_dir=str(tmp_path))
            with log.open("ab") as output:
                return subprocess.Popen(
                    [sys.executable, "-m", "streams.cli", "sink", "--to", str(file)],
                    cwd=ROOT,
                    env=plain_environment() | environment(settings) | {"PYTHONPATH": str(ROOT)},
                    stdout=output,
                    stderr=output,
                )

        async def written() -> bool:
            journal = await installation.records(installation.names.journal)
            return file.exists() and file.read_bytes().count(b"\n") == len(journal)

        sink = start()
        await until("the sink has written the journal", written)
        with away(apache_kafka, how):
            sink.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(sink.wait, ENDS_S) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        await installation.tasks(20, pools=2, first=20)
        await installation.sound()
        sink = start()
        await until("the sink has written the rest", written)
        sink.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(sink.wait, ENDS_S) == 0, log.read_text()
