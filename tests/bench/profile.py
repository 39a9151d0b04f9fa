"""A profile as a text table: where the processor's time goes, most expensive function first."""

from __future__ import annotations

import io
import pstats
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import cProfile

LINES: Final = 45


def write_profile(profile: cProfile.Profile, file: str) -> None:
    """Write the table: by time in the function itself, then by time with all that it calls."""
    text = io.StringIO()
    stats = pstats.Stats(profile, stream=text)
    stats.strip_dirs()
    for order in ("tottime", "cumulative"):
        stats.sort_stats(order).print_stats(LINES)
    Path(file).write_text(text.getvalue())
