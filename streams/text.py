"""Makes text of producers safe to show: characters that act on a terminal or end a log line are escaped."""

from __future__ import annotations

import re
from typing import Final

#: Controls, line ends, marks that turn the reading direction, and halves of a UTF-16 pair, which no encoding takes.
_ACTING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: object) -> str:
    """Return the text with every such character escaped."""
    return _ACTING.sub(lambda found: f"\\u{ord(found.group()):04x}", str(text))
