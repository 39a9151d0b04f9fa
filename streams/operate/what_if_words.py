"""An answer to what a window would have come to under other rules, as lines for terminal and page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from schemas.vocabulary import from_millis
from streams.estimate.interval import Interval
from streams.replay.side import Side
from streams.replay.what_if import WhatIf
from streams.views.units import span

_COUNTS: Final = ("work begun", "done", "failed", "waiting at the end", "starved")


def headline(found: WhatIf) -> str:
    """Return what was replayed."""
    fleet = (
        "the recorded slots" if found.fleet is None else ", ".join(f"{n} {model}" for model, n in found.fleet.items())
    )
    rules = ", ".join(f"{one.policy}/{one.catalog}" for one in found.recorded_rules)
    return (
        f"{found.tasks:,} tasks from {from_millis(found.from_ms)} to {from_millis(found.to_ms)}, recorded under "
        f"{rules}, replayed under {found.replayed_rules.policy}/{found.replayed_rules.catalog} with {fleet}."
    )


def changed(found: WhatIf) -> str:
    """Return how many tasks changed, and by which rules."""
    by = ", ".join(f"{count:,} by {rule}" for rule, count in found.rules.items())
    directly = (
        f"; {found.changed_directly:,} of them by the rules alone, the others because other slots were free"
        if found.changed_directly is not None
        else ""
    )
    return f"{found.changed:,} of {found.tasks:,} tasks got another model ({by}){directly}."


def rows(found: WhatIf) -> Iterator[tuple[str, str, str, str]]:
    """Return the comparison: what, recorded, replayed, difference."""
    was, now = found.recorded, found.replayed
    differences = (
        _more(was.usd, now.usd),
        _more(was.usd_per_done, now.usd_per_done),
        _more(was.ev_served, now.ev_served),
        _more(was.quality, now.quality),
        _more(was.waits.p50_s, now.waits.p50_s),
        _more(was.waits.p95_s, now.waits.p95_s),
        _more(was.waits.max_s, now.waits.max_s),
        f"{now.routed - was.routed:+,}",
        f"{now.done - was.done:+,}",
        f"{now.failed - was.failed:+,}",
        f"{now.waiting - was.waiting:+,}",
        f"{now.starved - was.starved:+,}",
        *(f"{100 * (now.tiers[tier] - was.tiers[tier]):+.1f} points" for tier in was.tiers),
    )
    for (name, before), (_, after), more in zip(side_rows(was), side_rows(now), differences, strict=True):
        yield name, before, after, more


def side_rows(side: Side) -> Iterator[tuple[str, str]]:
    """Return one course alone: what, and how much."""
    yield from (
        ("dollars", _usd(side.usd)),
        ("dollars a task done", _usd(side.usd_per_done)),
        ("EV served", f"{side.ev_served:,.0f}"),
        ("mean quality", _number(side.quality)),
        ("wait p50", span(side.waits.p50_s)),
        ("wait p95", span(side.waits.p95_s)),
        ("longest wait", span(side.waits.max_s)),
    )
    counts = (side.routed, side.done, side.failed, side.waiting, side.starved)
    for name, count in zip(_COUNTS, counts, strict=True):
        yield name, f"{count:,}"
    for tier, share in side.tiers.items():
        yield f"tier {tier}", f"{share:.1%}"


def sentences(found: WhatIf) -> Iterator[str]:
    """Return how sure the answer is, and what it takes for granted."""
    error = found.times_error
    if error is not None:
        yield (
            f"Service times: fitted to {error.observations:,} pieces of work; on work left out of the fit they are off "
            f"by {error.median_error:.0%} (median), {error.below_share:.0%} of it took less than predicted, and "
            f"{error.band_share:.0%} lay in the band that should hold 80%."
        )
    elif found.times == "fitted":
        yield "Service times: fitted to so little work that their error could not be measured."
    if found.estimates is not None:
        said = found.estimates
        yield (
            f"Quality a choice, estimated from propensities of {said.choices:,} choices (they weigh as much as "
            f"{said.effective_sample_size:,.0f}): recorded {_interval(said.logged)}, IPS {_interval(said.ips)}, "
            f"SNIPS {_interval(said.snips)}, doubly robust {_interval(said.doubly_robust)}."
        )
    if found.no_estimates is not None:
        yield found.no_estimates
    yield from found.notes


def _interval(one: Interval) -> str:
    return f"{one.value:.3f} [{one.low:.3f}, {one.high:.3f}]"


def _more(before: float | None, after: float | None) -> str:
    if before is None or after is None or not before:
        return ""
    return f"{after / before - 1:+.1%}"


def _usd(value: float | None) -> str:
    return "" if value is None else f"${value:,.4f}" if value < 1 else f"${value:,.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
