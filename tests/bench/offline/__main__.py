"""The command: compute the tables of docs/offline.md from recorded data, or from the slices that come with the code.

Nothing here asks a clock or the network: the same data and the same code give the same tables. Ends with 2 when the
data is not where it was looked for.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Final

import msgspec

from tests.bench.offline import fleets, pairs
from tests.bench.offline.fleets import BOOK, FleetRow
from tests.bench.offline.markdown import NoPlace, fleet_tables, pair_tables, write
from tests.bench.offline.pairs import PairTable
from tests.bench.offline.source import SLICES, Source, SourceMissing

EXIT_OK: Final = 0
EXIT_MISTAKE: Final = 2
PARTS: Final = ("pairs", "fleets")


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.offline", description="What routing is worth on recorded data."
    )
    parser.add_argument(
        "--data", type=Path, default=SLICES, metavar="DIR", help="the whole data (default: the slices beside the code)"
    )
    parser.add_argument("--only", choices=PARTS, help="one half only")
    parser.add_argument("--runs", type=int, default=fleets.RUNS, metavar="N", help="runs of each trace at each load")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="put the tables between the marks of this file")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the numbers")
    options = parser.parse_args(arguments)
    if options.runs < 1:
        parser.error("--runs: at least 1")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Compute what was asked for; tell how far it is on standard error."""
    options = read_options(arguments)
    source = Source(options.data)
    tables: list[PairTable] = []
    groups: list[list[FleetRow]] = []
    try:
        if options.only != "fleets":
            for table in pairs.measure(source):
                tables.append(table)
                _tell(f"{table.data}: {table.items} items")
        if options.only != "pairs":
            for group in fleets.measure(source, runs=options.runs):
                groups.append(group)
                _tell(f"{group[0].trace} at {group[0].load:g}: {group[0].tasks} tasks")
        text = _text(options.data, tables, groups)
        if options.markdown is not None:
            write(options.markdown, text)
    except (SourceMissing, NoPlace, OSError) as error:
        _tell(str(error))
        return EXIT_MISTAKE
    if options.markdown is None:
        sys.stdout.write(text)
    if options.json is not None:
        whole = {"policy": BOOK.policy_hash, "catalog": BOOK.catalog_hash, "pairs": tables, "fleets": groups}
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")
    return EXIT_OK


def _text(data: Path, tables: list[PairTable], groups: list[list[FleetRow]]) -> str:
    which = "the slices that come with the code" if data == SLICES else "the whole data"
    parts = [f"Of {which}; policy {BOOK.policy_hash}, catalogue {BOOK.catalog_hash}.\n"]
    if tables:
        parts.append(f"### Marked answers\n\n{pair_tables(tables)}")
    if groups:
        parts.append(f"### Fleets\n\n{fleet_tables(groups)}")
    return "\n".join(parts)


def _tell(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
