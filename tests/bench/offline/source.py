"""Where the recorded data is read from: a folder in the layout of the whole data, or the bundled slices.

Those of answers are beside this file, those of traces come with the simulator.
"""

from __future__ import annotations

import csv
import gzip
from pathlib import Path
from typing import Final

from streams import simulate

#: First rows and few columns of each file; data/NOTICE.md says whose they are.
SLICES: Final = Path(__file__).with_name("data")
TRACE_SLICES: Final = Path(simulate.__file__).with_name("data")


class SourceMissing(Exception):
    """A file of the data is not where it was looked for."""


class Source:
    """A folder with `quality/*.csv.gz` and `traces/*.csv.gz`."""

    def __init__(self, folder: Path = SLICES) -> None:
        self.folder = folder

    def rows(self, name: str) -> list[dict[str, str]]:
        """All rows of a file, such as `quality/routellm_mmlu`.

        Raises:
            SourceMissing: there is no such file.
        """
        path = self.folder / f"{name}.csv.gz"
        if self.folder == SLICES and name.startswith("traces/"):
            path = TRACE_SLICES / f"{name.removeprefix('traces/')}.csv.gz"
        try:
            with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
                return list(csv.DictReader(lines))
        except FileNotFoundError:
            raise SourceMissing(f"There is no {path}: name the data's folder with --data, or leave it out.") from None
