"""Keeps one command: runs it in a session of its own, and ends all that it started when that is asked for.

A program of its own with the standard library only, started once for each task. It is asked through a pipe: a `t` is
TERM, then KILL after the grace; a `k` is KILL at once; and the end of the pipe is a `t`. So whatever ends the
dispatcher, `kill -9` too, ends the command. On Linux the keeper also adopts what leaves the command's process group,
such as the tools of an agent that run in sessions of their own, and the command dies with the keeper.

Arguments: descriptor of the pipe, descriptor for the command's result, grace in seconds, the program and its arguments.
Exit code: that of the command; 128 and its number for a signal; 126 and 127, as a shell has them, where the command
cannot be started.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

#: Descriptor on which the command may write its result.
RESULT_FD = 3
CANNOT_RUN = 126
NOT_FOUND = 127
SIGNALLED = 128
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main(arguments: list[str]) -> int:
    """Run the command to its end, and return its exit code."""
    control, result, grace_s, command = int(arguments[0]), int(arguments[1]), float(arguments[2]), arguments[3:]
    os.set_inheritable(control, False)  # noqa: FBT003 - the library's own signature
    wakeup, waker = os.pipe()
    for end in (wakeup, waker):
        os.set_blocking(end, False)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    asked: list[int] = []
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: asked.append(number))
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    leader = os.fork()
    if leader == 0:
        _become(command, result)
    os.close(result)
    return _Keeper(leader, grace_s, asked).run(control, wakeup)


class _Keeper:
    def __init__(self, leader: int, grace_s: float, asked: list[int]) -> None:
        self._leader = leader
        self._grace_s = grace_s
        #: Signals to the keeper itself.
        self._asked = asked
        #: When what is left gets KILL; None: it was asked for nothing yet.
        self._kill_at_s: float | None = None
        self._code: int | None = None

    def run(self, control: int, wakeup: int) -> int:
        """Wait for the end of the command, or for the request to end it; then leave nothing of it."""
        watched = [control, wakeup]
        while self._code is None:
            left_s = None if self._kill_at_s is None else max(0.0, self._kill_at_s - time.monotonic())
            ready = select.select(watched, [], [], left_s)[0]
            if wakeup in ready:
                _drain(wakeup)
            if control in ready:
                words = os.read(control, 64)
                if not words:
                    watched.remove(control)
                self._ask(at_once=b"k" in words)
            if self._asked:
                self._ask(at_once=False)
            if left_s is not None and time.monotonic() >= (self._kill_at_s or 0.0):
                _signal_group(self._leader, signal.SIGKILL)
                self._kill_at_s = time.monotonic() + self._grace_s
            self._reap()
        self._end_rest(control if control in watched else None)
        return self._code

    def _ask(self, *, at_once: bool) -> None:
        self._asked.clear()
        now_s = time.monotonic()
        if at_once:
            self._kill_at_s = now_s
        elif self._kill_at_s is None:
            self._kill_at_s = now_s + self._grace_s
            _signal_group(self._leader, signal.SIGTERM)

    def _reap(self) -> bool:
        """Wait for all that has ended; return whether a child is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._leader:
                code = os.waitstatus_to_exitcode(status)
                self._code = code if code >= 0 else SIGNALLED - code

    def _end_rest(self, control: int | None) -> None:
        """End what the command left behind: its group, and what Linux gave to us."""
        if self._kill_at_s is None:
            self._kill_at_s = time.monotonic() + self._grace_s
        asked: set[int] = set()
        while True:
            left = self._reap()
            found = {-self._leader} if _signal_group(self._leader, 0) else set()
            found |= _children() if left else set()
            if not found:
                return
            late = time.monotonic() >= self._kill_at_s
            for one in found if late else found - asked:
                _signal(one, signal.SIGKILL if late else signal.SIGTERM)
            asked |= found
            if control is not None and select.select([control], [], [], _POLL_S)[0]:
                words = os.read(control, 64)
                control = control if words else None
                if b"k" in words:
                    self._kill_at_s = 0.0
            elif control is None:
                time.sleep(_POLL_S)


def _become(command: list[str], result: int) -> None:
    """Become the command."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os._exit(SIGNALLED + signal.SIGKILL)
        if result != RESULT_FD:
            os.dup2(result, RESULT_FD)
            os.close(result)
        os.set_inheritable(RESULT_FD, True)  # noqa: FBT003 - the library's own signature
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(command[0], command)  # noqa: S606 - what the operator named
    except OSError as error:
        os.write(2, f"{command[0]} cannot be started: {error.strerror}.\n".encode(errors="replace"))
        os._exit(NOT_FOUND if isinstance(error, FileNotFoundError) else CANNOT_RUN)


def _children() -> set[int]:
    """Return the children of this process; none where the system does not list them."""
    try:
        with open(  # noqa: PTH123 - pathlib takes longer to import than the rest
            f"/proc/self/task/{os.getpid()}/children", encoding="ascii"
        ) as listed:
            return {int(pid) for pid in listed.read().split()}
    except OSError:
        return set()


def _signal_group(leader: int, number: int) -> bool:
    return _signal(-leader, number)


def _signal(target: int, number: int) -> bool:
    """Signal a process, or a group by its negative number; return whether it is there."""
    try:
        os.kill(target, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as another user now, and is beyond our reach
        return False
    return True


def _drain(descriptor: int) -> None:
    try:
        while os.read(descriptor, 512):
            pass
    except BlockingIOError:
        pass


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


if __name__ == "__main__":
    code = main(sys.argv[1:])
    os._exit(code)
