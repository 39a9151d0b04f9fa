"""The plug-ins that are called about a task, and their time limits. Their answers are an input, `Advice`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, get_args

from msgspec import Meta, Struct

from schemas.vocabulary import Id, Strategy


class PluginPolicy(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Plug-ins by the names under which they are installed; without names no plug-in is called."""

    #: Scores tasks without an EV; where it returns None, the shipped formula is used.
    scorer: Id | None = None
    #: May be named as the default strategy or that of a lane.
    strategies: tuple[Id, ...] = ()
    #: Called for every task and every model.
    rules: tuple[Id, ...] = ()
    #: A plug-in that takes longer for one task has not answered.
    time_limit_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.05
    #: All plug-ins together delay a batch of records at most this long; the remaining tasks get no advice.
    batch_limit_s: Annotated[float, Meta(gt=0.0, le=60.0)] = 0.5
    #: After so many failures in a row a plug-in is not called for a while.
    failures_max: Annotated[int, Meta(ge=1, le=1_000)] = 5
    pause_s: Annotated[float, Meta(gt=0.0, le=86_400.0)] = 60.0

    @property
    def any(self) -> bool:
        """Whether any plug-in is named."""
        return self.scorer is not None or bool(self.strategies) or bool(self.rules)

    def mistakes(self) -> Iterator[str]:
        """Return mistakes that concern more than one value: key and sentence."""
        for name in self.strategies:
            if name in get_args(Strategy):
                yield f"strategies: {name} is a shipped strategy; a plug-in needs a name of its own."
        for key, names in (("strategies", self.strategies), ("rules", self.rules)):
            yield from (f"{key}: {name} stands there twice." for name in dict.fromkeys(names) if names.count(name) > 1)
