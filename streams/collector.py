"""The garbage collector of a process with much state: a full collection looks at all of it, and holds the process."""

from __future__ import annotations

import gc


def set_aside() -> None:
    """Have the collector look no more at what is there now: it lives long, and falls away without it.

    What was set aside before and is not used any more is collected first: an earlier state, say.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
