"""The packages are where they are imported from, in a wheel and in an editable installation."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PUBLIC = "streams/client/public"


def built(target: str, folder: Path) -> zipfile.ZipFile:
    """Build a wheel of this checkout, with the backend that pip calls."""
    build = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True, timeout=100)
    (wheel,) = folder.glob("*.whl")
    return zipfile.ZipFile(wheel)


def test_the_client_is_imported_as_slotwise_from_a_wheel(tmp_path: Path) -> None:
    """At its top level, once, with its types; and a program works with what is in the wheel alone."""
    with built("wheel", tmp_path) as wheel:
        names = wheel.namelist()
        wheel.extractall(tmp_path / "site")
    assert {"slotwise/__init__.py", "slotwise/fake.py", "slotwise/py.typed"} <= set(names)
    assert [name for name in names if name.startswith(PUBLIC)] == []
    program = "import slotwise, slotwise.fake, streams; print(slotwise.__file__, streams.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == [str(tmp_path / "site" / name / "__init__.py") for name in ("slotwise", "streams")]


def test_an_editable_installation_has_the_client_on_its_path(tmp_path: Path) -> None:
    """`make venv` makes one: the folder holds `slotwise` and nothing else that could be imported by mistake."""
    with built("wheel:editable", tmp_path) as wheel:
        (pth,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        lines = wheel.read(pth).decode().split()
    assert [Path(line).resolve() for line in lines] == [ROOT, ROOT / PUBLIC]
    assert [path.name for path in (ROOT / PUBLIC).iterdir() if path.name != "__pycache__"] == ["slotwise"]


@pytest.mark.parametrize("module", ["slotwise", "slotwise.fake"])
def test_the_public_package_only_names_what_is_elsewhere(module: str) -> None:
    """Everything that it promises is there, and has a docstring."""
    __import__(module)
    found = sys.modules[module]
    assert sorted(found.__all__) == found.__all__
    assert [name for name in found.__all__ if not getattr(found, name).__doc__] == []
