"""How wrong fitted service times are about work that they were not fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Final

from msgspec import Struct

from streams.estimate.service_time import Observation, ServiceTimes

PARTS: Final = 5


class TimesError(Struct, frozen=True, kw_only=True):
    """The error of service times on work that was left out of the fit, each piece once."""

    observations: int
    parts: int
    #: Median of |predicted - recorded| / recorded.
    median_error: float
    #: Share of the work that took less than predicted; 0.5 is calibrated.
    below_share: float
    #: Share of the work within the band that should hold 80 % of it.
    band_share: float


def cross_validated(observations: Sequence[Observation], *, parts: int = PARTS) -> TimesError:
    """Fit without each part in turn, and compare with it; observation i is in part i modulo `parts`.

    Raises:
        TooFewOutcomes: what is left without a part is too little to fit.
    """
    errors, below, within = [], 0, 0
    for part in range(parts):
        fitted = ServiceTimes([one for i, one in enumerate(observations) if i % parts != part])
        for one in observations[part::parts]:
            predicted = fitted.seconds(one.model, one.kind, one.size)
            low, high = fitted.band(one.model, one.kind, one.size)
            seconds = max(1e-3, one.seconds)
            errors.append(abs(predicted - seconds) / seconds)
            below += seconds < predicted
            within += low <= seconds <= high
    count = len(observations)
    return TimesError(
        observations=count,
        parts=parts,
        median_error=median(errors),
        below_share=below / count,
        band_share=within / count,
    )
