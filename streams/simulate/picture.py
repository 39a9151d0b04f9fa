"""Pictures of an experiment as SVG, made here of its numbers: value against money, and how waits are distributed.

Nothing beside text is needed to draw them, and every browser shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, floor, log10
from typing import Final
from xml.sax.saxutils import escape

from msgspec import Struct

from streams.estimate.interval import Interval

_WIDTH: Final = 860
_HEIGHT: Final = 520
#: Margins; the legend is in the right one.
_LEFT: Final = 70
_RIGHT: Final = 250
_TOP: Final = 40
_BOTTOM: Final = 60
#: Readable for the colour-blind, and on white paper.
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d1f", "#56b4e9", "#444444", "#b8860b", "#7a3db8")
_TICKS: Final = 5
_TIMES: Final = (
    *((1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min")),
    *((3600, "1 h"), (36_000, "10 h"), (360_000, "100 h")),
)
#: Shorter waits are drawn at the left edge.
_WAIT_S_MIN: Final = 1.0


class Point(Struct, frozen=True):
    """One cell: dollars and EV, both an hour."""

    name: str
    usd_per_h: Interval
    ev_per_h: Interval


class Curve(Struct, frozen=True):
    """The waits of one cell in seconds, from the shortest to the longest, at even shares of its tasks."""

    name: str
    waits_s: tuple[float, ...]


def frontier(points: Sequence[Point]) -> list[Point]:
    """Those of which no other gives as much EV for less money or more EV for as much, by falling money."""
    best: list[Point] = []
    for one in sorted(points, key=lambda point: (point.usd_per_h.value, -point.ev_per_h.value)):
        if not best or one.ev_per_h.value > best[-1].ev_per_h.value:
            best.append(one)
    return best


def pareto(points: Sequence[Point], title: str) -> str:
    """EV served against dollars, with intervals; a line joins the cells that no other one beats in both."""
    x = _linear([end for one in points for end in (one.usd_per_h.low, one.usd_per_h.high)], _LEFT, _WIDTH - _RIGHT)
    y = _linear([end for one in points for end in (one.ev_per_h.low, one.ev_per_h.high)], _HEIGHT - _BOTTOM, _TOP)
    steps = " ".join(f"{x.at(one.usd_per_h.value):.1f},{y.at(one.ev_per_h.value):.1f}" for one in frontier(points))
    drawn = [*_axes(x, y, "dollars an hour", "EV served an hour")]
    drawn.append(f'<polyline points="{steps}" fill="none" stroke="#999" stroke-dasharray="5 4"/>')
    for number, one in enumerate(points):
        colour = _COLOURS[number % len(_COLOURS)]
        across, up = x.at(one.usd_per_h.value), y.at(one.ev_per_h.value)
        drawn += [
            _line(x.at(one.usd_per_h.low), up, x.at(one.usd_per_h.high), up, colour),
            _line(across, y.at(one.ev_per_h.low), across, y.at(one.ev_per_h.high), colour),
            (
                f'<circle cx="{across:.1f}" cy="{up:.1f}" r="5" fill="{colour}"><title>{escape(one.name)}: '
                f"{one.ev_per_h.value:,.0f} EV/h, ${one.usd_per_h.value:,.2f}/h</title></circle>"
            ),
        ]
    return _svg(title, drawn, [one.name for one in points])


def waits(curves: Sequence[Curve], title: str) -> str:
    """Which share of the tasks waited at most so long; the scale of time is logarithmic."""
    longest = max(_WAIT_S_MIN * 10, *(one.waits_s[-1] for one in curves))
    x = _logarithmic(_WAIT_S_MIN, longest, _LEFT, _WIDTH - _RIGHT)
    y = _linear([0.0, 100.0], _HEIGHT - _BOTTOM, _TOP)
    drawn = [*_axes(x, y, "wait", "tasks, %")]
    for number, one in enumerate(curves):
        shares = [100 * place / (len(one.waits_s) - 1) for place in range(len(one.waits_s))]
        points = " ".join(
            f"{x.at(max(_WAIT_S_MIN, wait)):.1f},{y.at(share):.1f}"
            for wait, share in zip(one.waits_s, shares, strict=True)
        )
        colour = _COLOURS[number % len(_COLOURS)]
        drawn.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2">'
            f"<title>{escape(one.name)}</title></polyline>"
        )
    return _svg(title, drawn, [one.name for one in curves])


class _Scale(Struct, frozen=True):
    at: Callable[[float], float]
    #: (place, label).
    ticks: tuple[tuple[float, str], ...]


def _linear(values: Sequence[float], start: float, end: float) -> _Scale:
    """From 0 to a round number above all values."""
    most = max(0.0, *values) or 1.0
    unit = 10.0 ** floor(log10(most / _TICKS))
    step = next(unit * times for times in (1, 2, 2.5, 5, 10) if unit * times * _TICKS >= most)
    top = step * ceil(most / step)
    ticks = tuple(
        (start + (end - start) * place * step / top, f"{place * step:,.10g}") for place in range(round(top / step) + 1)
    )
    return _Scale(lambda value: start + (end - start) * max(0.0, value) / top, ticks)


def _logarithmic(least: float, most: float, start: float, end: float) -> _Scale:
    span = log10(most / least)

    def at(value: float) -> float:
        return start + (end - start) * log10(value / least) / span

    return _Scale(at, tuple((at(value), label) for value, label in _TIMES if least <= value <= most))


def _axes(x: _Scale, y: _Scale, across: str, up: str) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    drawn = []
    for place, label in x.ticks:
        drawn += [_line(place, _TOP, place, bottom, "#e5e5e5"), _text(place, bottom + 18, label, "middle")]
    for place, label in y.ticks:
        drawn += [_line(_LEFT, place, right, place, "#e5e5e5"), _text(_LEFT - 8, place + 4, label, "end")]
    middle = (_TOP + bottom) / 2
    drawn += [
        _line(_LEFT, bottom, right, bottom, "#333"),
        _line(_LEFT, _TOP, _LEFT, bottom, "#333"),
        _text((_LEFT + right) / 2, bottom + 42, across, "middle"),
        (
            f'<text x="16" y="{middle:.1f}" text-anchor="middle" transform="rotate(-90 16 {middle:.1f})">'
            f"{escape(up)}</text>"
        ),
    ]
    return drawn


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, drawn: Sequence[str], names: Sequence[str]) -> str:
    legend = []
    for number, name in enumerate(names):
        y, colour = _TOP + 20 * number, _COLOURS[number % len(_COLOURS)]
        legend += [
            f'<rect x="{_WIDTH - _RIGHT + 16}" y="{y}" width="12" height="12" fill="{colour}"/>',
            _text(_WIDTH - _RIGHT + 34, y + 11, name),
        ]
    height = max(_HEIGHT, _TOP + 20 * len(names) + 20)
    return "\n".join(
        [
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
                f'height="{height}" role="img" font-family="sans-serif" font-size="12">'
            ),
            f"<title>{escape(title)}</title>",
            f'<rect width="{_WIDTH}" height="{height}" fill="#fff"/>',
            _text(_LEFT, 24, title),
            *drawn,
            *legend,
            "</svg>\n",
        ]
    )
