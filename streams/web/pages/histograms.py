"""Columns as SVG, each a stack of parts: shares over the hours, counts over steps of a number, with marks between them.

As in `charts.py` only numbers and fixed words come into a picture; the names of parts are classes of the style sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from markupsafe import Markup
from msgspec import Struct

_GAP: Final = 2
_FOOT: Final = 20
#: Columns with a name below them, at most.
_NAMES_MAX: Final = 12


class ColumnOf(Struct, frozen=True):
    """One column: its name, its parts by class, and a sentence for the pointer."""

    name: str
    parts: Mapping[str, float]
    says: str


class Between(Struct, frozen=True):
    """A mark at the left edge of a column, with its name."""

    before: int
    name: str


def columns(
    found: Sequence[ColumnOf], *, label: str, whole: bool = False, marks: Sequence[Between] = (), height: int = 160
) -> Markup:
    """Return stacked columns side by side; with `whole` each is filled, so that parts are shares."""
    top = max((sum(one.parts.values()) for one in found), default=0.0) or 1.0
    width = 960
    wide = width / max(1, len(found))
    every = -(-len(found) // _NAMES_MAX)
    drawn = Markup("")
    for n, one in enumerate(found):
        scale = (height - _FOOT) / ((sum(one.parts.values()) or 1.0) if whole else top)
        y = float(height - _FOOT)
        drawn += Markup("<g><title>{}</title>").format(one.says)
        for name, part in one.parts.items():
            tall = part * scale
            y -= tall
            drawn += Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>').format(
                name, n * wide + _GAP / 2, y, max(1.0, wide - _GAP), tall
            )
        drawn += Markup("</g>")
        if n % every == 0:
            drawn += Markup('<text x="{:.1f}" y="{}">{}</text>').format(n * wide + _GAP / 2, height - 4, one.name)
    for n, mark in enumerate(marks):
        x = mark.before * wide
        below = sum(one.before == mark.before for one in marks[:n])
        drawn += Markup('<line class="mark" x1="{0:.1f}" x2="{0:.1f}" y1="0" y2="{1}"/>').format(x, height - _FOOT)
        drawn += Markup('<text class="mark" x="{:.1f}" y="{}">{}</text>').format(x + 4, 12 + 14 * below, mark.name)
    return Markup('<svg class="columns" role="img" viewBox="0 0 {} {}"><title>{}</title>{}</svg>').format(
        width, height, label, drawn
    )
