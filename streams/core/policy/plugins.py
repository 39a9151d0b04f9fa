"""Which plug-ins are asked about a task, and how long they may take. Their answers come from outside, as `Advice`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, get_args

from msgspec import Meta, Struct

from schemas.vocabulary import Id, Strategy


class PluginPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plug-ins by the names under which they are installed; nothing named: nothing is asked, and it costs nothing."""

    #: Values the tasks that bring no EV; where it has no opinion, the shipped formula does.
    scorer: Id | None = None
    #: May be named as the strategy of everything or of a lane.
    strategies: tuple[Id, ...] = ()
    #: Asked about every task, each for every model.
    rules: tuple[Id, ...] = ()
    #: A plug-in that takes longer for one task has not answered.
    time_limit_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.05
    #: All plug-ins together hold up a batch of records no longer than this; tasks not asked about by then go without.
    batch_limit_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.5
    #: After so many failures in a row a plug-in is left alone for a while.
    failures_max: Annotated[int, Meta(ge=1, le=1_000)] = 5
    pause_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 60.0

    @property
    def any(self) -> bool:
        """Whether there is anybody to ask."""
        return self.scorer is not None or bool(self.strategies) or bool(self.rules)

    def mistakes(self) -> Iterator[str]:
        """What each value alone cannot show: key and sentence."""
        for name in self.strategies:
            if name in get_args(Strategy):
                yield f"strategies: {name} is a shipped strategy; a plug-in needs a name of its own."
        for key, names in (("strategies", self.strategies), ("rules", self.rules)):
            yield from (f"{key}: {name} stands there twice." for name in dict.fromkeys(names) if names.count(name) > 1)
