"""How long to wait before the next attempt, after some failures in a row: pure, the randomness is given."""

from __future__ import annotations

from msgspec import Struct

_DOUBLINGS_MAX = 16


class Backoff(Struct, frozen=True):
    """Exponential back-off: the pause doubles with each failure, up to a limit. Both in seconds."""

    first_s: float
    longest_s: float

    def pause_s(self, failures: int, jitter: float = 1.0) -> float:
        """Return the pause before the next attempt.

        `failures` counts the failures in a row before the one that has just happened: 0 gives the first pause.
        `jitter`, from 0 to 1, spreads clients that failed together: it scales the pause from its half to its whole.
        """
        return min(self.longest_s, self.first_s * 2.0 ** min(failures, _DOUBLINGS_MAX)) * (0.5 + jitter / 2)
