"""What operators and probes said of products and models, in the order in which they said it.

Nothing is ever overwritten: what holds in a pool at a moment is read off the whole list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

Key = tuple[str, str | None]


@dataclass
class View:
    """What holds in one pool: until when a product is used up, a model drained, a quota so far used."""

    marks: dict[Key, float] = field(default_factory=dict)
    drains: dict[str, float] = field(default_factory=dict)
    #: (product, account, window) -> (share, until, reported at).
    quotas: dict[tuple[str, str | None, str], tuple[float, float, int]] = field(default_factory=dict)
    #: (tenant, lane or pool, its name) -> until when its cap is suspended; a pool's has no name.
    opened: dict[tuple[str, str | None], int] = field(default_factory=dict)

    def exhausted(self, product: str, account: str | None, now_ms: int) -> bool:
        """Whether the product is used up, for all accounts or for this one."""
        return any(self.marks.get((product, whose), -inf) > now_ms for whose in (None, account))

    def drained(self, model: str, now_ms: int) -> bool:
        """Whether an operator took the model out of service."""
        return self.drains.get(model, -inf) > now_ms

    def usage(self, product: str, account: str | None, now_ms: int) -> float:
        """The fullest window of the product, of all accounts or of this one."""
        shares = [
            min(share, 1.0)
            for (what, whose, _), (share, until_ms, _) in self.quotas.items()
            if what == product and whose in (None, account) and until_ms > now_ms
        ]
        return max(shares, default=0.0)

    def ends_ms(self) -> list[float]:
        """When something of this ends by itself."""
        untils = [
            *self.opened.values(),
            *self.marks.values(),
            *self.drains.values(),
            *(until_ms for _, until_ms, _ in self.quotas.values()),
        ]
        return [until_ms for until_ms in untils if until_ms < inf]


class Conditions:
    """All that was said in a partition."""

    def __init__(self) -> None:
        self._said: list[tuple[str | None, Callable[[View], None]]] = []

    def in_pool(self, pool: str) -> View:
        """What was said of this pool or of all."""
        view = View()
        for whose, change in self._said:
            if whose in (None, pool):
                change(view)
        return view

    def exhaust(self, pool: str | None, product: str, account: str | None, until_ms: int) -> None:
        """A product is used up until then."""
        self._said.append((pool, lambda view: view.marks.update({(product, account): until_ms})))

    def drain(self, pool: str | None, model: str, until_ms: int | None) -> None:
        """A model is out of service until then, or for good."""
        self._said.append((pool, lambda view: view.drains.update({model: inf if until_ms is None else until_ms})))

    def use(self, pool: str | None, key: tuple[str, str | None, str], share: float, until_ms: int, at_ms: int) -> None:
        """So much of a window is used, as was reported then; the newest report counts."""

        def change(view: View) -> None:
            if key not in view.quotas or view.quotas[key][2] <= at_ms:
                view.quotas[key] = (share, until_ms, at_ms)

        self._said.append((pool, change))

    def open(self, pool: str | None, of: str, name: str | None, until_ms: int) -> None:
        """A cap is suspended until then."""
        self._said.append((pool, lambda view: view.opened.update({(of, name): until_ms})))

    def restore(self, pool: str | None, product: str, account: str | None, models: Iterable[str]) -> None:
        """The product's marks and reports end, of one account or of all; without an account the models' drains too."""
        models = list(models)

        def change(view: View) -> None:
            view.marks = {
                key: until_ms
                for key, until_ms in view.marks.items()
                if key[0] != product or account not in (None, key[1])
            }
            for key, (_, _, at_ms) in list(view.quotas.items()):
                if key[0] == product and account in (None, key[1]):
                    view.quotas[key] = (0.0, -inf, at_ms)
            if account is None:
                view.drains = {model: until_ms for model, until_ms in view.drains.items() if model not in models}

        self._said.append((pool, change))
