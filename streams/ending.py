"""The end of a process that was asked to stop: in good order, but within a bound, also when a server does not answer.

It may end at any time: what counts is durable, and what is undone is done again by the next process.
"""

from __future__ import annotations

import os
import sys
import threading
from typing import Final, NoReturn

#: An orderly stop takes a second or two; a process that is still there after this ends without it.
STOP_S_MAX: Final = 7.0
#: A broker that does not answer for so long is away.
ANSWER_S_MAX: Final = 2.0


def end(sentence: str) -> NoReturn:
    """End this process at once, with a sentence on standard error: it was asked to, so its exit code is 0."""
    sys.stdout.flush()
    sys.stderr.write(f"{sentence}\n")
    sys.stderr.flush()
    os._exit(0)


def end_after(seconds: float, sentence: str) -> None:
    """End this process after a while, if it has not ended by itself."""
    timer = threading.Timer(seconds, end, [sentence])
    timer.daemon = True
    timer.start()
