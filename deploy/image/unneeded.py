"""Lists installed packages that slotwise does not need at run time, one a line, for `pip uninstall -r`.

Needed is what slotwise requires without its extras, and what that requires with the extras that are asked for;
`--without NAME` leaves a package out, with all that only it needs. pip itself stays.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Collection
from importlib.metadata import PackageNotFoundError, distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(root: str, without: Collection[str] = ()) -> set[str]:
    """Return the names of a package and of all that it needs here, as far as they are installed."""
    found: set[tuple[str, str]] = set()
    open_ = [(canonicalize_name(root), "")]
    while open_:
        name, extra = open_.pop()
        if (name, extra) in found or name in without:
            continue
        try:
            wanted = [Requirement(line) for line in requires(name) or []]
        except PackageNotFoundError:
            continue
        found.add((name, extra))
        for one in wanted:
            if one.marker is None or one.marker.evaluate({"extra": extra}):
                open_ += [(canonicalize_name(one.name), its) for its in ("", *one.extras)]
    return {name for name, _ in found}


def main() -> None:
    """Print the list."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--without", action="append", default=[], metavar="NAME")
    kept = needed("slotwise", {canonicalize_name(name) for name in parser.parse_args().without}) | {"pip"}
    installed = {canonicalize_name(one.metadata["Name"]) for one in distributions()}
    sys.stdout.write("".join(f"{name}\n" for name in sorted(installed - kept)))


if __name__ == "__main__":
    main()
