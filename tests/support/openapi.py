"""docs/openapi.json: the description of the HTTP API as the application gives it, with the routes of operators.

`python -m tests.support.openapi` writes it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from streams.web.application import application
from tests.support.web_rig import WebRig

FILE = Path(__file__).parents[2] / "docs" / "openapi.json"


def text() -> bytes:
    """Return what the file should hold."""
    return msgspec.json.format(msgspec.json.encode(application(WebRig().web).openapi()), indent=2) + b"\n"


if __name__ == "__main__":
    FILE.write_bytes(text())
