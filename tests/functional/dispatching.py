"""A running `slotwise dispatch` with its events, and the ends of tasks as their producers read them."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from kafka import KafkaConsumer

from schemas.vocabulary import TASK_FINISHED
from tests.functional.commands import DEADLINE_S, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.functional.commands import Up


class Place(Protocol):
    """What has a data directory, such as an `Up`."""

    directory: Path


class Dispatching:
    """A dispatcher as a process, in a folder where its commands run."""

    def __init__(self, up: Place, folder: Path, *words: str) -> None:
        """Start it with these words, behind the data directory of the installation."""
        self.folder = folder
        self.output = folder / "dispatch.jsonl"
        self.errors = folder / "dispatch.log"
        with self.output.open("ab") as output, self.errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "dispatch", "--data-dir", str(up.directory), "--json", *words],
                stdout=output,
                stderr=errors,
                env={**environment(), "PYTHONPATH": str(Path(__file__).parents[2])},
                cwd=folder,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """End it, and what it runs."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(DEADLINE_S)

    def events(self, event: str, task_id: str | None = None) -> list[dict[str, Any]]:
        """Give what happened so far, of earlier dispatchers in this folder too."""
        lines = []
        for line in self.output.read_text().splitlines():
            with contextlib.suppress(json.JSONDecodeError):  # the last one may be half written
                lines.append(json.loads(line))
        return [one for one in lines if one["event"] == event and task_id in (None, one.get("task_id"))]

    def wait_for(self, event: str, task_id: str | None = None, *, count: int = 1) -> dict[str, Any]:
        """Wait for an event, and give the last one of its kind."""
        until(
            lambda: self.process.poll() is not None or len(self.events(event, task_id)) >= count,
            f"{event} of {task_id or 'any task'}",
        )
        found = self.events(event, task_id)
        assert len(found) >= count, self.errors.read_text()
        return found[-1]

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for its end."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE_S)


def finished(up: Up, task_ids: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Wait until every one of these tasks is over, and give how; each is over once."""
    wanted = set(task_ids)
    consumer = KafkaConsumer(
        TASK_FINISHED,
        bootstrap_servers=up.at.broker,
        group_id=None,
        auto_offset_reset="earliest",
        consumer_timeout_ms=500,
    )
    ends: dict[str, dict[str, Any]] = {}
    #: By decision: the router may send a record again.
    seen: dict[str, set[str]] = {}
    try:

        def all_over() -> bool:
            for record in consumer:
                event = json.loads(record.value)
                if event["task_id"] in wanted:
                    ends[event["task_id"]] = event
                    seen.setdefault(event["task_id"], set()).add(f"{event['status']} {event['at']}")
            return wanted <= set(ends)

        until(all_over, f"the end of {sorted(wanted)}")
    finally:
        consumer.close()
    assert Counter({task_id: len(times) for task_id, times in seen.items()}) == Counter(dict.fromkeys(wanted, 1))
    return ends
