"""The whole price files of some releases of LiteLLM, downloaded with pip, once, into the user's cache.

`python -m tests.support.price_releases` does that ahead of the tests.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

#: An old one, one with prices in the wrong unit, and one with aliases, tiers and hours.
RELEASES: Final = ("1.60.0", "1.80.0", "1.110.2")
DOWNLOAD_S_MAX: Final = 100
_INSIDE: Final = "litellm/model_prices_and_context_window_backup.json"
_PIP: Final = ("-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input")
#: The package is not installed, so it need not fit this Python.
_OPTIONS: Final = ("--no-deps", "--ignore-requires-python", "--only-binary", ":all:")


class MissingPriceFile(Exception):
    """The file is not here and cannot be downloaded; the message says why."""


def price_file(release: str) -> Path:
    """Return the price file of a release.

    Raises:
        MissingPriceFile: it cannot be had.
    """
    stated = os.environ.get("XDG_CACHE_HOME")
    target = (Path(stated) if stated else Path.home() / ".cache") / "slotwise" / f"litellm-{release}.json"
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{target.name}-", dir=target.parent) as scratch:
        command = [sys.executable, *_PIP, *_OPTIONS, "--dest", scratch, f"litellm=={release}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DOWNLOAD_S_MAX)
        except subprocess.TimeoutExpired as error:
            raise MissingPriceFile(f"pip did not download litellm {release} within {DOWNLOAD_S_MAX} s.") from error
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or not wheels:
            why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise MissingPriceFile(f"pip could not download litellm {release}, for its price file: {why}")
        whole = Path(scratch) / "prices.json"
        with zipfile.ZipFile(wheels[0]) as wheel:
            whole.write_bytes(wheel.read(_INSIDE))
        whole.replace(target)
    return target


if __name__ == "__main__":
    for one in RELEASES:
        print("The price file of litellm", one, "is", price_file(one))  # noqa: T201 - what the program is for
