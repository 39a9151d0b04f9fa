"""Reads a text file that a person named: UTF-8, with or without a byte order mark; anything else is one sentence."""

from __future__ import annotations

import codecs
from pathlib import Path
from typing import Final

from streams.errors import MISTAKE, SlotwiseError
from streams.text import printable

#: More than any catalogue, policy or price file; so that a device or a wrong file does not fill the memory.
BYTES_MAX: Final = 64 * 1024 * 1024
#: How a file in another encoding begins; UTF-32 first, because UTF-16's mark is the beginning of its own.
_MARKS: Final = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)


class TextFileError(SlotwiseError):
    """A file cannot be read as text; the message names it, says why, and what to do."""

    exit_code = MISTAKE


def read_text_file(path: Path | str) -> str:
    """Return the text of a file without its byte order mark; line ends stay as they are.

    Raises:
        TextFileError: it is not there, may not be read, is too large, or is not UTF-8.
    """
    return decode_text(read_bytes_file(path), path)


def read_bytes_file(path: Path | str) -> bytes:
    """Return the content of a file.

    Raises:
        TextFileError: it is not there, may not be read, or is too large.
    """
    name = printable(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise TextFileError(f"{name} cannot be read: {error.strerror}.") from None
    except ValueError:  # Python's own answer to a NUL in a path
        raise TextFileError(f"{name} cannot be read: no file has such a name.") from None
    if len(content) > BYTES_MAX:
        raise TextFileError(f"{name} cannot be read: it is larger than {BYTES_MAX // 2**20} MiB.")
    return content


def decode_text(content: bytes, path: Path | str) -> str:
    """Return the text of a file's content, as `read_text_file` does.

    Raises:
        TextFileError: it is not UTF-8.
    """
    name = printable(path)
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            raise TextFileError(f"{name} is {encoding} and cannot be read: save it as UTF-8.")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise TextFileError(
            f"{name} is not UTF-8 and cannot be read: byte {byte:#04x} in line {line}. Save it as UTF-8."
        ) from None
