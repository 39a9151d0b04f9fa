"""Distributions with plug-ins, as pip would leave them in a folder of `sys.path`: the documented example, any other."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "plugins"

EntryPoints = Mapping[str, Mapping[str, str]]


def install(folder: Path, name: str, entry_points: EntryPoints, module: str) -> None:
    """Put a distribution of one module into a folder; the module is called like the distribution."""
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.py").write_text(module)
    info = folder / f"{name}-1.0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0.0\n")
    lines = []
    for group, points in entry_points.items():
        lines.append(f"[{group}]")
        lines.extend(f"{point} = {value}" for point, value in points.items())
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def install_example(folder: Path) -> None:
    """Put in the folder what `pip install docs/examples/plugins` would."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    install(folder, "fleet_plugins", project["entry-points"], (EXAMPLE / "fleet_plugins.py").read_text())
