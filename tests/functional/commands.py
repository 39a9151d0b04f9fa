"""Runs `slotwise` as people do: as a program of its own, with its output, its exit code and its signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from streams import up_file
from streams.up_file import UpFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Nothing here takes so long unless it hangs.
DEADLINE_S = 200.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of the tests without settings of slotwise, plus some."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLOTWISE_")}
    return {**kept, "COLUMNS": "200", **(more or {})}


def slotwise(*words: str, stdin: str = "", env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", *words],
        input=stdin,
        capture_output=True,
        text=True,
        env=environment(env),
        timeout=DEADLINE_S,
        check=False,
    )


def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds; fail, saying what did not come, when it does not."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        time.sleep(0.05)


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


class Up:
    """A running `slotwise up`."""

    def __init__(self, directory: Path, *words: str) -> None:
        self.directory = directory
        self.output = directory / "output.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "streams.cli", "up", "--data-dir", str(directory), *words],
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment(),
            )

    def __enter__(self) -> Self:
        """Wait until it is ready."""
        try:
            until(lambda: self.file() or self.process.poll() is not None, "up.json")
            assert self.process.poll() is None, self.output.read_text()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End it, by force if the test has not done so."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def file(self) -> UpFile | None:
        """Read its up.json, while there is one."""
        return up_file.read(self.directory)

    @property
    def at(self) -> UpFile:
        """Where it is reached now."""
        found = self.file()
        assert found is not None, self.output.read_text()
        return found

    def command(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run another command that finds this installation by its data directory."""
        return slotwise(*words, "--data-dir", str(self.directory), stdin=stdin)
