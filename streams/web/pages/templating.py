"""The templates: Jinja that escapes everything, knows no value that is not given, and shows characters that act.

Every text that a template writes passes `shown`, so a title cannot turn the reading direction or end a line, whatever
template it comes to. Markup is made by `charts.py` and the functions here only.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from schemas.vocabulary import Millis, to_millis
from streams.text import printable
from streams.views.units import many, share, span, usd
from streams.web.pages import charts

#: Longer texts of producers are cut where they are listed.
TEXT_MAX: Final = 160
_TYPES: Final = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}

#: The files of `static/`: name -> type and content.
STATIC: Final[dict[str, tuple[str, bytes]]] = {
    one.name: (_TYPES[one.name.rpartition(".")[2]], one.read_bytes())
    for one in (files("streams.web.pages") / "static").iterdir()
    if one.name.rpartition(".")[2] in _TYPES
}
#: So that a browser asks again after an upgrade, and not before.
VERSION: Final = hashlib.sha256(b"".join(content for _, (_, content) in sorted(STATIC.items()))).hexdigest()[:12]


def shown(value: Any) -> Any:
    """Return what a template writes of a value: texts without characters that act, nothing of None."""
    if value is None:
        return ""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def cut(text: str, characters_max: int = TEXT_MAX) -> str:
    """Shorten a long text."""
    return text if len(text) <= characters_max else text[: characters_max - 1] + "…"


def ago(iso: str | None, now_ms: Millis, *, word: str = "ago", brief: bool = False) -> Markup:
    """Return a time as a span before now, or to come, with the time itself for the pointer."""
    if iso is None:
        return Markup("")
    at_ms = to_millis(iso)
    far = span(abs(now_ms - at_ms) / 1000, units=1 if brief else 2)
    says = f"{far} {word}".rstrip() if at_ms <= now_ms else f"in {far}"
    return Markup('<time datetime="{iso}" title="{iso}">{says}</time>').format(iso=iso, says=says)


def lines(text: str) -> Markup:
    """Return a text of several lines; what acts within a line is shown."""
    return Markup("\n").join(printable(line) for line in text.split("\n"))


def linked(says: str, leads: Mapping[str, str]) -> Markup:
    """Return a sentence with its counts as links: `leads` says where `3 tasks running` leads, by its last word."""
    words = "|".join(map(re.escape, leads))
    count = re.compile(rf"\b\d[\d,]*(?: of \d[\d,]*)?(?: [a-z]+){{0,3}}? (?P<word>{words})\b")
    made, at = Markup(""), 0
    for found in count.finditer(says) if leads else ():
        made += escape(printable(says[at : found.start()]))
        made += Markup('<a class="n" href="{}">{}</a>').format(leads[found["word"]], found[0])
        at = found.end()
    return made + escape(printable(says[at:]))


def score(value: float | None) -> str:
    """Say a number without a unit."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"  # noqa: PLR2004


def environment() -> Environment:
    """Return the environment of all templates."""
    made = Environment(
        loader=PackageLoader("streams.web.pages", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=shown,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.filters.update(cut=cut, lines=lines, span=span, usd=usd, share=share, score=score, linked=linked)
    made.globals.update(
        ago=ago, many=many, sparkline=charts.sparkline, bar=charts.bar, scale=charts.scale, dots=charts.dots,
        stacked=charts.stacked,        version=VERSION,
    )  # fmt: skip
    return made
