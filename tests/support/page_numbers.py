"""What a browser would find on a page: its numbers, where they lead, and what it says to have counted."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.web_rig import WebRig

#: Cells that are numbers; elsewhere a number has the class `n`.
_CELLS = {"c-number", "c-span", "c-usd", "c-share"}
_VOID = {"br", "hr", "img", "input", "link", "meta", "path", "rect", "line", "circle", "polyline", "polygon"}


class Numbers(HTMLParser):
    """Collects the numbers of a page with the links they have, what links have counted, and the count of the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        #: Text of each number, and where it leads; None: nowhere.
        self.numbers: list[tuple[str, str | None]] = []
        #: Where a link leads, and how many rows are there.
        self.counted: set[tuple[str, int]] = set()
        self.matching: int | None = None
        #: Addresses that sort a table.
        self.sorts: list[str] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self._number: list[str] | None = None
        self._depth = 0
        self._link: str | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a link, a count, or the beginning of a number."""
        given = dict(attrs)
        if tag in _VOID:
            return
        self._open.append((tag, given))
        classes = set((given.get("class") or "").split())
        if "data-matching" in given:
            self.matching = int(given["data-matching"] or 0)
        if tag == "a" and given.get("href"):
            href = given["href"] or ""
            if any(one == "th" for one, _ in self._open):
                self.sorts.append(href)
            if "data-count" in given:
                self.counted.add((href, int(given["data-count"] or 0)))
        if self._number is None and ((tag == "td" and classes & _CELLS) or "n" in classes):
            around = next((one["href"] for name, one in reversed(self._open) if name == "a" and "href" in one), None)
            self._number, self._depth, self._link = [], len(self._open), around
        elif self._number is not None and tag == "a":
            self._link = given.get("href")

    def handle_endtag(self, tag: str) -> None:
        """Note the end of a number."""
        if tag in _VOID:
            return
        if self._number is not None and len(self._open) == self._depth:
            if text := "".join(self._number).strip():
                self.numbers.append((text, self._link))
            self._number = None
        self._open.pop()

    def handle_data(self, data: str) -> None:
        """Note the text of a number."""
        if self._number is not None:
            self._number.append(data)


async def page(rig: WebRig, address: str) -> Numbers:
    """Return what a page has."""
    reply = await rig.ask("GET", address)
    assert reply.status == 200, (address, reply.body)
    return Numbers(reply.body.decode())
