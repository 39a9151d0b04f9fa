"""The answer of a replay as one HTML file that needs nothing else: tables, and pictures of waits, tiers and rules."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from markupsafe import Markup

from streams.operate.what_if_words import changed, headline, rows, sentences
from streams.replay.side import BOUNDS_S
from streams.replay.what_if import WhatIf
from streams.views.units import span
from streams.web.pages.histograms import Between, ColumnOf, columns
from streams.web.pages.templating import STATIC, environment

#: Changed tasks in the table; JSON has all.
CHANGES_MAX = 1_000


def replay_report(found: WhatIf) -> str:
    """Return the page."""
    return (
        environment()
        .get_template("replay_report.html")
        .render(
            style=Markup(STATIC["slotwise.css"][1].decode()),  # noqa: S704 -- a file of ours
            headline=headline(found),
            rows=list(rows(found)),
            changed=changed(found),
            found=found,
            changes=found.changes[:CHANGES_MAX],
            sentences=list(sentences(found)),
            waits=_waits(found),
            tiers=_tiers(found),
            rules=_rules(found),
        )
    )


def _waits(found: WhatIf) -> Markup:
    """Return how many tasks waited how long, recorded and replayed side by side."""
    drawn, marks = [], []
    for place, (name, key) in enumerate(_bounds()):
        marks.append(Between(2 * place, name))
        for side, of in (("recorded", found.recorded), ("replayed", found.replayed)):
            count = of.waits_below_s[key]
            drawn.append(ColumnOf("", {side: float(count)}, f"{side}: {count:,} tasks waited {name}"))
    return columns(drawn, label="Tasks by how long they waited, recorded and replayed", marks=marks, height=200)


def _bounds() -> Iterator[tuple[str, str]]:
    yield f"< {span(BOUNDS_S[0], 1)}", str(BOUNDS_S[0])
    for _, upper in pairwise(BOUNDS_S):
        yield f"< {span(upper, 1)}", str(upper)
    yield "more", "more"


def _tiers(found: WhatIf) -> Markup:
    """Return the mix of tiers, as two filled columns."""
    sides = (("recorded", found.recorded), ("replayed", found.replayed))
    drawn = [
        ColumnOf(
            name,
            {f"tier-{tier}": share for tier, share in side.tiers.items()},
            f"{name}: " + ", ".join(f"tier {tier} {share:.1%}" for tier, share in side.tiers.items()),
        )
        for name, side in sides
    ]
    return columns(drawn, label="Share of each tier, recorded and replayed", whole=True)


def _rules(found: WhatIf) -> Markup | None:
    """Return how many tasks each rule changed; None: none was."""
    drawn = [ColumnOf(rule, {"replayed": float(n)}, f"{n:,} tasks by {rule}") for rule, n in found.rules.items()]
    return columns(drawn, label="Changed tasks by the rule that changed them") if drawn else None
