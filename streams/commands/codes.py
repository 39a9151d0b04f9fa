"""How a command ends with an error: its exit code (streams/errors.py) and its sentence."""

from __future__ import annotations

from typing import Final

from streams.errors import MISTAKE, UNREACHABLE
from streams.secret import masked

#: Errors of our libraries that reach the command line; by name, so that nothing is imported only to be compared with.
_UNREACHABLE: Final = {"KafkaError", "OperationalError"}


def code_of(error: BaseException) -> int | None:
    """Return the exit code of an error that is no bug; None: a bug of ours, to be shown whole."""
    if hasattr(error, "format_message"):  # the command line itself is wrong
        return MISTAKE
    code: int | None = getattr(error, "exit_code", None)
    if code is not None:
        return code
    if _UNREACHABLE.intersection(kind.__name__ for kind in type(error).__mro__):
        return UNREACHABLE
    return MISTAKE if isinstance(error, OSError) else None


def sentence_of(error: BaseException) -> str:
    """Return the sentence of an error for the person who ran the command; a password that was typed is masked."""
    if hasattr(error, "format_message"):
        return masked(str(error.format_message()))
    if isinstance(error, OSError) and error.filename is not None:
        return masked(f"{error.filename} cannot be read or written: {error.strerror}.")
    return masked(" ".join(str(error).split())) or type(error).__name__
