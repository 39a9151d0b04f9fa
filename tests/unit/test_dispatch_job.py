"""A command for one task, as a real process: what it is given, what is read of it, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from streams.dispatch import keeper
from streams.dispatch.job import Ended, Job
from streams.dispatch.result import Result
from streams.dispatch.slot_folder import SlotFolder
from tests.support.dispatch import Bench, routed, slot

if TYPE_CHECKING:
    from collections.abc import Callable

#: Nothing here takes so long unless it hangs.
DEADLINE_S = 30.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give a slot to run jobs on."""
    return Bench(tmp_path)


async def until(condition: Callable[[], object], what: str) -> None:
    """Wait until the condition holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {DEADLINE_S:.0f} s: {what}"
        await asyncio.sleep(0.01)


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def parent_of(pid: int) -> int:
    """Return the parent of a process: of a command, its keeper."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pid_in(path: Path) -> int:
    """Read the process id that a script wrote; 0 before it has."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        return int(path.read_text())
    return 0


async def test_a_command_gets_the_task_on_its_input_in_a_file_and_in_its_environment(bench: Bench) -> None:
    """The whole record of task.routed, payload as it was sent, and the fields that a script wants as variables."""
    task = routed(title="Fix typo", payload='{"n":1.50}', account="acct-1")
    job = bench.job(
        "cat; cat $TASK_FILE; echo $TASK_ID $TASK_POOL $TASK_SLOT $TASK_MODEL $TASK_ACCOUNT $TASK_MAX_TOKENS "
        "$TASK_LEASE $TASK_LEASE_EXPIRES_AT $TASK_ATTEMPT $TASK_DECISION_ID $TASK_RESULT_FD",
        task=task,
    )
    ended = await bench.run(job)
    _, from_input, from_file, variables, _ = ended.log.read_text().splitlines()
    assert from_input == from_file
    assert json.loads(from_input)["title"] == "Fix typo"
    assert '"payload":{"n":1.50}' in from_input
    assert variables == "t-1 agents s haiku acct-1 1024 3 2026-11-29T10:30:00.000Z 2 d-1 3"


@pytest.mark.parametrize(
    ("line", "want"),
    [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -9 $$", 137),
        ("no-such-command-at-all", 127),
    ],
)
async def test_a_command_ends_with_its_exit_code(bench: Bench, line: str, want: int) -> None:
    """A signal counts as in a shell."""
    assert (await bench.run(bench.job(line))).exit_code == want


async def test_a_result_is_read_from_the_descriptor(bench: Bench) -> None:
    """Fd 3, also by the number in TASK_RESULT_FD; what is printed is only logged then."""
    ended = await bench.run(bench.job("""echo '{"quality":0.1}'; echo '{"quality":0.9,"output_tokens":5}' >&3"""))
    assert ended.result == Result(quality=0.9, output_tokens=5)
    outcome = ended.outcome("t-1", 0)
    assert (outcome.status, outcome.quality, outcome.output_tokens) == ("success", 0.9, 5)


async def test_a_result_is_read_from_the_last_line_of_a_long_output(bench: Bench) -> None:
    """Megabytes before it neither block the command nor hide the line."""
    line = """head -c 9000000 /dev/zero | tr '\\0' 'x'; echo; echo '{"cost_usd":0.25}'"""
    ended = await bench.run(bench.job(line), log_bytes_max=100_000)
    assert ended.result == Result(cost_usd=0.25)
    kept = sum(path.stat().st_size for path in ended.log.parent.glob("*.log*"))
    assert kept <= 2 * 100_000 + 65_536


async def test_both_outputs_are_in_the_log_with_how_it_ended(bench: Bench) -> None:
    """A first line that says what ran where, and a last one with the exit code."""
    ended = await bench.run(bench.job("echo out; echo err >&2; exit 3"))
    first, *middle, last = ended.log.read_text().splitlines()
    assert first.startswith("# t-1, attempt 2, on s (haiku), lease 3, decision d-1: ")
    assert sorted(middle) == ["err", "out"]
    assert last.startswith("# ended with 3 after ")


async def test_only_the_logs_of_the_last_tasks_are_kept(bench: Bench) -> None:
    """`logs_keep` of them, whatever their tasks are called."""
    for number in range(4):
        await bench.run(bench.job("true", task=routed(task_id=f"t-{number}", lease=number + 1)), logs_keep=2)
    assert sorted(path.name for path in bench.folder.path.glob("*.log")) == ["t-2.3.log", "t-3.4.log"]


async def test_ids_that_begin_with_a_dot_stay_in_their_folder(tmp_path: Path) -> None:
    """`..` is a valid id of a pool, and must not lead out."""
    folder = SlotFolder(tmp_path / "root", "..", ".")
    assert folder.lock()
    assert folder.path.relative_to(tmp_path / "root") == Path("%2E.") / "%2E"


async def stopped(bench: Bench, job: Job, ready: Path, how: Callable[[], None]) -> Ended:
    """Run a job, stop it when it is ready, and wait for its end."""
    running = asyncio.ensure_future(bench.run(job))
    await until(ready.exists, "the script is ready")
    how()
    return await asyncio.wait_for(running, DEADLINE_S)


async def test_a_command_that_is_stopped_may_end_in_good_order(bench: Bench, tmp_path: Path) -> None:
    """TERM first; what it writes then still counts."""
    job = bench.job("""trap 'echo "{\\"cost_usd\\":2}" >&3; exit 5' TERM; touch ready; sleep 100 & wait""")
    ended = await stopped(bench, job, tmp_path / "ready", job.stop)
    assert (ended.exit_code, ended.cancelled("t-1").cost_usd) == (5, 2.0)


async def test_a_command_that_does_not_listen_is_killed_after_the_grace(bench: Bench, tmp_path: Path) -> None:
    """KILL, to the whole group."""
    job = bench.job("trap '' TERM; touch ready; while :; do sleep 1; done", grace_s=0.2)
    ended = await stopped(bench, job, tmp_path / "ready", job.stop)
    assert ended.exit_code == 128 + signal.SIGKILL


async def test_a_second_request_kills_at_once(bench: Bench, tmp_path: Path) -> None:
    """No grace: an hour would be over before this test."""
    job = bench.job("trap '' TERM; touch ready; while :; do sleep 1; done", grace_s=3600)

    def twice() -> None:
        job.stop()
        job.kill()

    ended = await stopped(bench, job, tmp_path / "ready", twice)
    assert ended.exit_code == 128 + signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives a process what its children left behind")
async def test_nothing_that_a_command_started_outlives_it(bench: Bench, tmp_path: Path) -> None:
    """Neither in its group nor in a session of its own, as the tools of an agent are."""
    line = "sleep 1000 & echo $! > one; setsid sh -c 'echo $$ > two; exec sleep 1000' &"
    job = bench.job(f"{line} while [ ! -s two ]; do :; done; exit 4")
    ended = await asyncio.wait_for(bench.run(job), DEADLINE_S)
    assert ended.exit_code == 4
    pids = [pid_in(tmp_path / name) for name in ("one", "two")]
    assert all(pids)
    assert not any(map(alive, pids))


DISPATCHER = textwrap.dedent("""
    import asyncio, sys
    from pathlib import Path
    from tests.support.dispatch import Bench
    bench = Bench(Path(sys.argv[1]))
    job = bench.job("trap '' TERM; echo $$ > pid; while :; do sleep 1; done", grace_s=0.5)
    asyncio.run(bench.run(job))
""")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_killed_dispatcher_leaves_no_command_and_no_free_slot_before_that(
    tmp_path: Path, number: signal.Signals
) -> None:
    """After kill -9 the keeper ends the command; until it has, the slot's lock is not to be had."""
    dispatcher = subprocess.Popen([sys.executable, "-c", DISPATCHER, str(tmp_path)])  # noqa: ASYNC220 - it returns at once
    try:
        await until(lambda: pid_in(tmp_path / "pid"), "the command runs")
        command = pid_in(tmp_path / "pid")
        dispatcher.send_signal(number)
        dispatcher.wait(DEADLINE_S)
        folder = SlotFolder(tmp_path / "dispatch", "agents", "s")
        await until(folder.lock, "the slot is free")
        assert not alive(command)
    finally:
        dispatcher.kill()
        dispatcher.wait()


async def test_a_killed_keeper_takes_its_command_along(bench: Bench, tmp_path: Path) -> None:
    """The job ends as killed, so its slot becomes free again."""
    job = bench.job("echo $$ > pid; exec sleep 1000")
    running = asyncio.ensure_future(bench.run(job))
    await until(lambda: pid_in(tmp_path / "pid"), "the command runs")
    command = pid_in(tmp_path / "pid")
    os.kill(parent_of(command), signal.SIGKILL)
    assert (await asyncio.wait_for(running, DEADLINE_S)).exit_code == 128 + signal.SIGKILL
    await until(lambda: not alive(command), "the command is gone")


async def test_a_program_that_vanished_is_a_failure_with_its_reason(bench: Bench, tmp_path: Path) -> None:
    """It was there when the dispatcher started; the log says what is wrong now."""
    program = tmp_path / "run.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    job = bench.job(command=("./run.sh",))
    program.unlink()
    ended = await bench.run(job)
    assert ended.exit_code == keeper.NOT_FOUND
    assert "./run.sh cannot be started: No such file or directory." in ended.log.read_text()


async def test_a_log_that_cannot_be_written_stops_no_work(bench: Bench) -> None:
    """The work counts, and a note says why there is no log."""
    (bench.folder.path / "t-1.3.log").mkdir()
    ended = await bench.run(bench.job("echo hi"))
    assert ended.exit_code == 0
    assert ended.notes == (f"{ended.log} cannot be written: Is a directory. The work goes on.",)


STAND_IN = """#!/bin/sh
[ "$1 $2" = "-p --output-format" ] || exit 9
read -r prompt
printf '{"type":"result","is_error":false,"result":"%s","total_cost_usd":0.5,"usage":{"output_tokens":4}}\\n' "$prompt"
"""


@pytest.mark.parametrize(
    ("fields", "want"),
    [
        ({"title": "Fix it", "ref": "https://x/1"}, "Fix it"),
        ({"title": "Fix it", "payload": '{"prompt":"Do that"}'}, "Do that"),
        ({"title": "Fix it", "payload": '"Do this"'}, "Do this"),
        ({"title": "Fix it", "payload": '{"prompt":3}'}, "Fix it"),
        ({"title": "--help"}, "--help"),
    ],
)
async def test_a_preset_asks_its_program_and_reads_its_answer(
    bench: Bench, tmp_path: Path, fields: dict[str, str], want: str
) -> None:
    """A stand-in for claude: the prompt comes on its input, and its figures are the outcome's."""
    program = tmp_path / "claude"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    job = Job(slot(tmp_path, preset="claude"), routed(**fields))
    ended = await bench.run(job)
    assert ended.result == Result(cost_usd=0.5, output_tokens=4)
    assert f'"result":"{want}"' in ended.log.read_text()


STAND_INS = {
    "codex": (
        """[ "$1 $2 $3 $4" = "exec --json --model haiku" ] && [ "$5" = - ] || exit 9
        printf '{"type":"turn.completed","usage":{"input_tokens":%s,"output_tokens":2}}\\n' "${#prompt}" """,
        Result(input_tokens=6, output_tokens=2),
    ),
    "gemini": (
        """[ "$1 $2 $3 $4" = "--output-format json --model haiku" ] || exit 9
        printf '{"stats":{"models":{"haiku":{"tokens":{"prompt":%s,"candidates":2}}}}}\\n' "${#prompt}" """,
        Result(input_tokens=6, output_tokens=2),
    ),
    "ollama": (
        """[ "$1 $2 $3" = "run --verbose haiku" ] || exit 9
        echo an answer
        printf 'prompt eval count:    %s token(s)\\neval count:           2 token(s)\\n' "${#prompt}" >&2""",
        Result(input_tokens=6, output_tokens=2),
    ),
}


@pytest.mark.parametrize(("name", "script", "want"), [(name, *case) for name, case in STAND_INS.items()], ids=STAND_INS)
async def test_every_preset_runs_its_program_and_reads_its_figures(
    bench: Bench, tmp_path: Path, name: str, script: str, want: Result
) -> None:
    """Stand-ins that refuse other arguments, and say how long the prompt was that came on their input."""
    program = tmp_path / name
    program.write_text(f"#!/bin/sh\nread -r prompt\n{script}\n")
    program.chmod(0o755)
    ended = await bench.run(Job(slot(tmp_path, preset=name), routed(title="Fix it")))
    assert ended.result == want, ended.log.read_text()
