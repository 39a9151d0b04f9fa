"""A product that is used up takes no work until its reset; then it does so again by itself."""

from __future__ import annotations

from schemas.vocabulary import Millis, from_millis
from streams.core.state.marks import Account, Marks


def until_ms(marks: Marks, product: str, account: Account, now_ms: Millis) -> Millis | None:
    """Until when the product is marked for this account, by a mark of its own or one of all accounts."""
    known = (marks.exhausted.get((product, account)), marks.exhausted.get((product, None)))
    return max((until for until in known if until is not None and until > now_ms), default=None)


def reason(product: str, ends_ms: Millis) -> str:
    """Why nothing of this product is used."""
    return f"{product} is exhausted until {from_millis(ends_ms)}"
