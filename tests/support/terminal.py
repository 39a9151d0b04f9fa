"""A program on a terminal of its own (a pty), and what that terminal shows: a screen of fixed size."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping
from typing import Final, Self

from rich.cells import cell_len

WAIT_S: Final = 60.0
#: A control sequence, one character, or the beginning of a sequence whose end is not here yet.
_PARTS: Final = re.compile(r"\x1b\[(?P<private>\?)?(?P<numbers>[0-9;]*)(?P<what>[A-Za-z])|(?P<one>[^\x1b])", re.DOTALL)


class Screen:
    """What a terminal shows after what was written to it; it knows what rich writes."""

    def __init__(self, width: int, height: int) -> None:
        #: Whether it is the terminal's other screen, which a program has for itself.
        self.is_other = False
        self._rest = ""
        self.resize(width, height)

    def resize(self, width: int, height: int) -> None:
        """Begin again with another size, as a program does that draws all of it."""
        self.width, self.height = width, height
        self._cells = self._blank()
        self._x = self._y = 0

    @property
    def lines(self) -> list[str]:
        """The lines, without the blanks at their ends."""
        return ["".join(row).rstrip() for row in self._cells]

    @property
    def text(self) -> str:
        """All that stands inside a border, as running text."""
        return " ".join(" ".join(line.strip("│ ") for line in self.lines).split())

    def feed(self, text: str) -> None:
        """Take what the program writes."""
        text, self._rest = self._rest + text, ""
        at = 0
        while at < len(text):
            part = _PARTS.match(text, at)
            if part is None:
                self._rest = text[at:]
                return
            at = part.end()
            if (one := part["one"]) is not None:
                self._put(one)
            else:
                self._obey(part["what"], part["numbers"], private=part["private"] is not None)

    def _blank(self) -> list[list[str]]:
        return [[" "] * self.width for _ in range(self.height)]

    def _put(self, one: str) -> None:
        if one == "\r":
            self._x = 0
        elif one == "\n":
            self._down()
        elif wide := cell_len(one):
            if self._x + wide > self.width:
                self._x = 0
                self._down()
            self._cells[self._y][self._x : self._x + wide] = [one, *[""] * (wide - 1)]
            self._x += wide

    def _down(self) -> None:
        if self._y + 1 < self.height:
            self._y += 1
        else:
            self._cells = [*self._cells[1:], [" "] * self.width]

    def _obey(self, what: str, numbers: str, *, private: bool) -> None:
        given = [int(number or 0) for number in numbers.split(";")]
        match what:
            case "H":
                row, column = (*given, 0, 0)[:2]
                self._y, self._x = max(0, row - 1), max(0, column - 1)
            case "J":
                self._cells = self._blank()
            case "K":
                self._cells[self._y][self._x :] = [" "] * (self.width - self._x)
            case "A":
                self._y = max(0, self._y - max(1, given[0]))
            case "h" if private and given == [1049]:
                self.is_other = True
                self.resize(self.width, self.height)
            case "l" if private and given == [1049]:
                self.is_other = False
                self.resize(self.width, self.height)


class Terminal:
    """A program on a terminal. A context manager: at its end the program is ended."""

    def __init__(self, *command: str, width: int, height: int, environment: Mapping[str, str]) -> None:
        self.screen = Screen(width, height)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._pid, self.fd = pty.fork()
        if self._pid == 0:  # the child, on the terminal; it waits for the size
            os.read(0, 1)
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # whatever started the tests may ignore it
            # These would count for more than the size of the terminal, and what starts the tests may have set them.
            its_own = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES")}
            os.execvpe(command[0], command, {**its_own, "TERM": "xterm-256color"})
        self._size(width, height)
        self.press("\n")

    def __enter__(self) -> Self:
        """Give it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the program by force, if it still runs."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self.fd)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self.fd, keys.encode())

    def resize(self, width: int, height: int) -> None:
        """Give the terminal another size; a signal says so to the program."""
        self.screen.resize(width, height)
        self._size(width, height)

    def until(self, there: Callable[[Screen], bool]) -> Screen:
        """Read what the program writes until the screen shows what is wanted."""
        deadline_s = time.monotonic() + WAIT_S
        while not there(self.screen):
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, "not in time:\n" + "\n".join(self.screen.lines)
            self._read(left_s)
        return self.screen

    def ended(self) -> int:
        """Read to the end, and return the exit code; a negative one is a signal."""
        while self._read(WAIT_S):
            pass
        pid, self._pid = self._pid, 0
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def echoes(self) -> bool:
        """Whether what is typed is shown, and comes line by line, as a shell has it."""
        local: int = termios.tcgetattr(self.fd)[3]
        return bool(local & termios.ECHO) and bool(local & termios.ICANON)

    def _read(self, wait_s: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], wait_s)
        try:
            raw = os.read(self.fd, 65_536) if ready else b""
        except OSError:  # Linux says so that the program has closed it
            return False
        self.screen.feed(self._decoder.decode(raw))
        return bool(raw)

    def _size(self, width: int, height: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
