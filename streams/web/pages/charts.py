"""Pictures as SVG, made here of numbers: a line of recent values, a bar of a share, dots of many slots.

Only numbers and fixed words come into them, so nothing of a producer can. Colours are classes of the style sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from markupsafe import Markup

_DOT: Final = 8
_DOTS_A_ROW: Final = 60


def sparkline(values: Sequence[float], *, label: str, width: int = 240, height: int = 40) -> Markup:
    """Return a line of values, the latest on the right, filled to 0; `label` says it in words."""
    top = max(values, default=0.0) or 1.0
    step = width / max(1, len(values) - 1)
    points = [f"{n * step:.1f},{height - 1 - value / top * (height - 4):.1f}" for n, value in enumerate(values)]
    line = " ".join(points)
    area = f"0,{height} {line} {width},{height}"
    return Markup(
        '<svg class="spark" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}" preserveAspectRatio="none">'
        '<title>{label}</title><polygon class="area" points="{area}"/><polyline class="line" points="{line}"/></svg>'
    ).format(w=width, h=height, label=label, area=area, line=line)


def bar(share: float, *, label: str, grade: str = "", width: int = 96, height: int = 4) -> Markup:
    """Return a thin bar of which a share of 0..1 is filled."""
    filled = round(min(1.0, max(0.0, share)) * width, 1)
    return Markup(
        '<svg class="bar {grade}" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}" preserveAspectRatio="none">'
        '<title>{label}</title><rect class="whole" width="{w}" height="{h}"/>'
        '<rect class="part" width="{filled}" height="{h}"/></svg>'
    ).format(w=width, h=height, filled=filled, label=label, grade=grade)


def scale(share: float, *, label: str, width: int = 160, height: int = 12) -> Markup:
    """Return a scale of 0..1 with marks at a half and at nine tenths, and a dot at the share."""
    x = round(min(1.0, max(0.0, share)) * (width - 8) + 4, 1)
    return Markup(
        '<svg class="scale" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}"><title>{label}</title>'
        '<line class="whole" x1="4" x2="{end}" y1="6" y2="6"/><line class="mark" x1="{p50}" x2="{p50}" y1="1" y2="11"/>'
        '<line class="mark" x1="{p90}" x2="{p90}" y1="1" y2="11"/><circle class="at" cx="{x}" cy="6" r="4"/></svg>'
    ).format(w=width, h=height, label=label, end=width - 4, p50=width / 2, p90=4 + 0.9 * (width - 8), x=x)


def stacked(parts: Mapping[str, float], *, label: str, width: int = 240, height: int = 12) -> Markup:
    """Return a bar of several parts, side by side; their names are the classes of their colours."""
    total, x = sum(parts.values()) or 1.0, 0.0
    drawn = Markup("")
    for name, part in parts.items():
        wide = part / total * width
        drawn += Markup('<rect class="{name}" x="{x:.1f}" width="{wide:.1f}" height="{h}"/>').format(
            name=name, x=x, wide=wide, h=height
        )
        x += wide
    return Markup(
        '<svg class="stacked" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}" preserveAspectRatio="none">'
        "<title>{label}</title>{drawn}</svg>"
    ).format(w=width, h=height, label=label, drawn=drawn)


def dots(counts: Mapping[str, int], *, label: str, key: str) -> Markup:
    """Return a dot for each slot, state by state; `key` makes the names in it unlike those of other pictures.

    The size does not grow with the slots: rows of dots are filled with a pattern.
    """
    total = sum(counts.values())
    rows = max(1, -(-total // _DOTS_A_ROW))
    width, height = min(total, _DOTS_A_ROW) * _DOT or _DOT, rows * _DOT
    patterns, drawn, start = Markup(""), Markup(""), 0
    for state, count in counts.items():
        if not count:
            continue
        name = f"dots-{key}-{state}"
        patterns += Markup(
            '<pattern id="{name}" width="{d}" height="{d}" patternUnits="userSpaceOnUse">'
            '<rect class="{state}" x="1" y="1" width="{inner}" height="{inner}" rx="1"/></pattern>'
        ).format(name=name, d=_DOT, inner=_DOT - 2, state=state)
        for x, y, wide, high in _runs(start, count):
            drawn += Markup('<rect fill="url(#{name})" x="{x}" y="{y}" width="{w}" height="{h}"/>').format(
                name=name, x=x * _DOT, y=y * _DOT, w=wide * _DOT, h=high * _DOT
            )
        start += count
    return Markup(
        '<svg class="dots" role="img" viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
        "<title>{label}</title><defs>{patterns}</defs>{drawn}</svg>"
    ).format(w=width, h=height, label=label, patterns=patterns, drawn=drawn)


def _runs(start: int, count: int) -> list[tuple[int, int, int, int]]:
    """Return the rectangles (x, y, width, height, in dots) of some dots in a grid that is filled row by row."""
    found = []
    row, column = divmod(start, _DOTS_A_ROW)
    if column:
        first = min(count, _DOTS_A_ROW - column)
        found.append((column, row, first, 1))
        count, row = count - first, row + 1
    whole, rest = divmod(count, _DOTS_A_ROW)
    if whole:
        found.append((0, row, _DOTS_A_ROW, whole))
    if rest:
        found.append((0, row + whole, rest, 1))
    return found


class Station(NamedTuple):
    """One box of a picture of the flow."""

    name: str
    says: str
    #: Place from the left, and from the top.
    column: int
    row: float
    #: How good it is, as a class of the style sheet.
    grade: str = ""
    #: Where what it says leads to; None: nowhere.
    href: str | None = None


class Arrow(NamedTuple):
    """One arrow between two boxes, with a line above it and one below."""

    start: str
    end: str
    above: str = ""
    below: str = ""
    #: Where both lines lead to; None: nowhere.
    href: str | None = None


_BOX: Final = (120, 48)
_APART: Final = (236, 72)


def picture(stations: Sequence[Station], arrows: Sequence[Arrow], *, label: str) -> Markup:
    """Return boxes with arrows between them."""
    at = {one.name: one for one in stations}
    width = max(one.column for one in stations) * _APART[0] + _BOX[0] + 8
    height = round(max(one.row for one in stations) * _APART[1]) + _BOX[1] + 8
    lines, texts = Markup(""), Markup("")
    for arrow in arrows:
        x1, y1 = _place(at[arrow.start])
        x2, y2 = _place(at[arrow.end])
        x1, y1, y2 = x1 + _BOX[0], y1 + _BOX[1] / 2, y2 + _BOX[1] / 2
        xm, ym = (x1 + x2) / 2, (y1 + y2) / 2
        lines += Markup(
            '<path class="arrow" d="M{x1} {y1} C{xm} {y1} {xm} {y2} {x2} {y2}" marker-end="url(#head)"/>'
        ).format(x1=x1, y1=y1, x2=x2 - 6, y2=y2, xm=xm)
        texts += _linked(
            Markup("").join(
                Markup('<text class="on" x="{x}" y="{y}" text-anchor="middle">{says}</text>').format(
                    x=xm, y=y, says=says
                )
                for y, says in ((ym - 5, arrow.above), (ym + 15, arrow.below))
                if says
            ),
            arrow.href,
        )
    for one in stations:
        x, y = _place(one)
        lines += Markup('<rect class="station {grade}" x="{x}" y="{y}" width="{w}" height="{h}" rx="4"/>').format(
            grade=one.grade, x=x, y=y, w=_BOX[0], h=_BOX[1]
        )
        texts += Markup('<text class="name" x="{x}" y="{y}">{name}</text>').format(
            x=x + 8, y=y + (20 if one.says else 29), name=one.name
        )
        if one.says:
            says = Markup('<text class="says" x="{x}" y="{y}">{says}</text>').format(x=x + 8, y=y + 38, says=one.says)
            texts += _linked(says, one.href)
    # A group, not an image: a reader of the screen gets to its links.
    return Markup(
        '<svg class="picture" role="group" aria-label="{label}" viewBox="0 0 {w} {h}" width="{w}" height="{h}">'
        '<defs><marker id="head" viewBox="0 0 8 8" refX="6" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
        '<path class="head" d="M0 0L8 4L0 8z"/></marker></defs>{lines}{texts}</svg>'
    ).format(w=width, h=height, label=label, lines=lines, texts=texts)


def _linked(drawn: Markup, href: str | None) -> Markup:
    return Markup('<a href="{}">{}</a>').format(href, drawn) if drawn and href is not None else drawn


def _place(one: Station) -> tuple[float, float]:
    return one.column * _APART[0] + 4, round(one.row * _APART[1]) + 4
