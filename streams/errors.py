"""The base of our errors, and what the end of a command means to a script.

The message of such an error is for the person who gave the command: what happened, and what to do. Every other
exception is a bug, and is shown whole.
"""

from __future__ import annotations

import sys
from typing import ClassVar, Final

#: The command ran, and something is not as it should be.
FAILED: Final = 1
#: A mistake in the command, a setting or a file.
MISTAKE: Final = 2
#: Something that is needed does not answer or cannot start.
UNREACHABLE: Final = 3


class SlotwiseError(Exception):
    """An error whose message says what to do.

    The core imports nothing of the shell: its errors only have the attribute.
    """

    #: With this a command ends that raises it.
    exit_code: ClassVar[int] = FAILED


def foreign_package(error: ImportError) -> str:
    """Say that a package beside ours took the place of one of ours, and what to do.

    Raises:
        ImportError: it is of another package, which is not installed.
    """
    name = (error.name or "").partition(".")[0]
    if name not in ("schemas", "streams"):
        raise error
    where = error.path or getattr(sys.modules.get(name), "__file__", None) or "nowhere"
    return (
        f"The package `{name}` that is imported here ({where}) is not that of slotwise, which has one of the same name "
        f"({error}): install slotwise in an environment of its own."
    )
