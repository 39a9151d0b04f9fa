"""What every measurement is given: the options, the stage, the events and a place to report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from tests.bench.race import make_load

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.race import Run
    from tests.bench.stage import BrokerKind, Stage
    from tests.bench.workload import Load

#: One side takes it a second at least: below, the start of the stretch would show.
EVENTS_MIN: Final = 4_000


class Options(Struct, frozen=True, kw_only=True):
    """What the run was asked for."""

    only: tuple[str, ...] = ()
    json: str = ""
    events: int = 80_000
    repeat: int = 3
    broker: BrokerKind = "tansu"
    quick: bool = False
    check: bool = False
    profile: bool = False


class Bench:
    """One run of the bench."""

    def __init__(self, options: Options, stage: Stage, tell: Callable[[str], None], directory: Path) -> None:
        self.options = options
        self.stage = stage
        self.tell = tell
        #: Where profiles are kept.
        self.directory = directory
        #: What (b) reached, of which (f) sends half.
        self.events_per_s: float | None = None
        self._loads: dict[int, Load] = {}

    def load(self, share: float = 1.0) -> Load:
        """Give the events of a comparison, made once."""
        events = max(EVENTS_MIN, int(self.options.events * share))
        if events not in self._loads:
            self._loads[events] = make_load(events)
        return self._loads[events]

    def profile_file(self, name: str) -> Path | None:
        """Give the file for a profile, when profiles were asked for."""
        if not self.options.profile:
            return None
        self.directory.mkdir(parents=True, exist_ok=True)
        return (self.directory / f"{name}.profile.txt").absolute()

    def tell_run(self, run: Run) -> None:
        """Tell what one side reached."""
        self.tell(f"{run.side}: {run.events_per_s:,.0f} events/s, {run.cpu_us_per_event:.0f} us of its processor each")
