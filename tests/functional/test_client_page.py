"""The programs of docs/client.md do what the page says: on a running installation, and without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slotwise import Client
from tests.functional.commands import DEADLINE_S, environment, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.functional.commands import Up

ROOT = Path(__file__).parents[2]
PROGRAMS = dict(
    re.findall(r"<!-- example (\S+) -->\n```python\n(.*?)```", (ROOT / "docs" / "client.md").read_text(), re.DOTALL)
)
#: As `make venv` has it.
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "streams" / "client" / "public")))}


def test_every_program_of_the_page_is_run_here() -> None:
    """A block of Python without a name would not be."""
    assert set(PROGRAMS) == {"slot.py", "careful.py", "producer.py", "both.py", "test_serving.py"}
    assert (ROOT / "docs" / "client.md").read_text().count("```python\n") == len(PROGRAMS)


def test_the_tests_of_the_page_pass_without_a_broker() -> None:
    """As pytest would run them."""
    names: dict[str, object] = {}
    exec(PROGRAMS["test_serving.py"], names)
    tests = [test for name, test in names.items() if name.startswith("test_") and callable(test)]
    assert len(tests) == 2
    for test in tests:
        test()


@contextmanager
def running(name: str, folder: Path) -> Iterator[Path]:
    """Run a program of the page in a folder, until the block ends; give its output."""
    (folder / name).write_text(PROGRAMS[name])
    output = folder / f"{name}.log"
    with output.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", name], stdout=log, stderr=log, env=environment(ENVIRONMENT), cwd=folder
        )
    try:
        yield output
        assert process.poll() is None, output.read_text()
    finally:
        process.kill()
        process.wait()


def done(name: str, folder: Path) -> str:
    """Run a program of the page to its end, and return what it prints."""
    (folder / name).write_text(PROGRAMS[name])
    program = subprocess.run(
        [sys.executable, name],
        cwd=folder,
        env=environment(ENVIRONMENT),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert program.returncode == 0, program.stderr
    return program.stdout


def test_the_programs_of_the_page_work_together(installation: Up, tmp_path: Path) -> None:
    """A slot does the producer's task; one that is asked to stop does; one program may be both sides."""
    (tmp_path / ".slotwise").symlink_to(installation.directory)
    with running("slot.py", tmp_path) as served, running("careful.py", tmp_path):
        said = done("producer.py", tmp_path)
        assert re.fullmatch(r"[0-9a-f]{32}: success after 1 attempts on py-haiku-1, \$[\d.e-]+\n", said)
        assert "Fix typo in README {'file': 'README.md', 'lines': [12, 14]}" in served.read_text()
        with Client(bootstrap_servers=installation.at.broker) as client:
            task = client.submit(pool="careful")
            running_now = lambda: task.task_id in installation.command("tasks", "--running", "--json").stdout  # noqa: E731
            until(running_now, "the task runs")
            client.cancel(task)
            end = client.wait(task, timeout=DEADLINE_S)
            assert (end.status, end.slot_id) == ("cancelled", "py-haiku-2")
        assert done("both.py", tmp_path) == "['success', 'success', 'success']\n"
