"""Makes text of producers safe to show: characters that act on a terminal or end a log line are escaped."""

from __future__ import annotations

import re
from typing import Final

#: Controls, line ends, and marks that turn the reading direction.
_ACTING: Final = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def printable(text: object) -> str:
    """Return the text with every such character escaped."""
    return _ACTING.sub(lambda found: f"\\u{ord(found.group()):04x}", str(text))
