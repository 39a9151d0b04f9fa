"""Generates the contract from the structs: a JSON Schema a topic, one AsyncAPI file, the tables of docs/events.md.

For development: `python -m schemas.contracts` writes them, `--check` fails when one is stale. It needs PyYAML, which is
among the development dependencies only.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from schemas.asyncapi import asyncapi
from schemas.events_page import fill_page
from schemas.json_schema import TOPICS, json_schema

_DOCS: Final = "docs/events.md"


def render(root: Path) -> dict[str, str]:
    """Return the text of every generated file by its path below `root`; the page is rendered where it exists."""
    files = {f"schemas/json/{topic}.schema.json": _json(json_schema(topic)) for topic in TOPICS}
    files["schemas/asyncapi.yaml"] = (
        "# Generated from the structs by `python -m schemas.contracts`; change those.\n" + _yaml(asyncapi())
    )
    page = root / _DOCS
    if page.exists():
        files[_DOCS] = fill_page(page.read_text(encoding="utf-8"))
    return files


def main(arguments: list[str], root: Path) -> int:
    """Write stale files, or with `--check` only name them; 0: nothing is stale now; 2: a mistake."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m schemas.contracts [--check]\n")
        return 2
    try:
        files = render(root)
    except ModuleNotFoundError as missing:
        sys.stderr.write(f"{missing.name} is missing: install the development dependencies, pip install -e '.[dev]'.\n")
        return 2
    stale = [
        (name, text)
        for name, text in files.items()
        if not (root / name).exists() or (root / name).read_text(encoding="utf-8") != text
    ]
    if arguments:
        for name, _ in stale:
            sys.stderr.write(f"{name} is stale: run `python -m schemas.contracts` and commit what it writes.\n")
        return 1 if stale else 0
    for name, text in stale:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return 0


def _json(document: Mapping[str, Any]) -> str:
    return json.dumps(document, indent=2) + "\n"


def _yaml(document: Mapping[str, Any]) -> str:
    import yaml  # noqa: PLC0415 - a development dependency, needed by this command only

    class Dumper(yaml.SafeDumper):
        """Writes each value in place, without anchors."""

        def ignore_aliases(self, _: object) -> bool:
            return True

    return yaml.dump(document, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Path(__file__).parent.parent))
