"""What a command's end means: the exit codes, and the sentence for each error that we know.

0 done; 1 it ran, and something is not as it should be; 2 a mistake in the command, a setting or a file; 3 something
that is needed does not answer or cannot start.
"""

from __future__ import annotations

from typing import Final

FAILED: Final = 1
MISTAKE: Final = 2
UNREACHABLE: Final = 3

#: What each of our errors means for whoever called us; by name, so that nothing is imported only to be compared with.
CODES: Final = {
    "SettingsError": MISTAKE,
    "RulebookError": MISTAKE,
    "UpError": MISTAKE,
    "ControlError": MISTAKE,
    "LookError": MISTAKE,
    "RecommendError": MISTAKE,
    "PriceFileError": MISTAKE,
    "NoCatalogError": MISTAKE,
    "NotInTimeError": FAILED,
    "TopicsError": MISTAKE,
    "MigrationError": FAILED,
    "DatabaseError": FAILED,
    "JournalError": FAILED,
    "EmbeddedError": UNREACHABLE,
    "NoFreePort": UNREACHABLE,
    "SendError": UNREACHABLE,
    "PageError": UNREACHABLE,
    "PortError": UNREACHABLE,
    "KafkaError": UNREACHABLE,
    "OperationalError": UNREACHABLE,
}
#: Errors that say either "is wrong" or "does not answer", and what they were raised for in the second case.
ABOUT_SERVERS: Final = {"TopicsError", "DatabaseError"}
NO_ANSWER: Final = {"KafkaError", "OperationalError", "OSError"}


def code_of(error: BaseException) -> int | None:
    """Find the exit code of an error that we know; None: a bug of ours, to be shown whole."""
    if hasattr(error, "format_message"):  # the command line itself is wrong
        return MISTAKE
    kinds = [kind.__name__ for kind in type(error).__mro__]
    known = next((CODES[kind] for kind in kinds if kind in CODES), None)
    if known is None:
        return MISTAKE if isinstance(error, OSError) else None
    cause = {kind.__name__ for kind in type(error.__cause__ or error.__context__).__mro__}
    return UNREACHABLE if ABOUT_SERVERS.intersection(kinds) and cause & NO_ANSWER else known


def sentence_of(error: BaseException) -> str:
    """Say what an error means for the person who gave the command."""
    if hasattr(error, "format_message"):
        return str(error.format_message())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename} cannot be read or written: {error.strerror}."
    return " ".join(str(error).split()) or type(error).__name__
