"""A file that is written as a whole: readers see the old content or the new one; permissions hold from the start."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from streams.whole_file import write_whole


def test_the_new_content_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    """A reader that has the old file open still reads it; no draft stays."""
    file = tmp_path / "a.json"
    write_whole(file, b"old")
    with file.open("rb") as reader:
        write_whole(file, b"new", durable=True)
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [file]


def test_permissions_are_in_force_before_the_content_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a draft of a process that was killed is in the way, with other permissions."""
    draft = tmp_path / "up.json.new"
    draft.write_bytes(b"of before")
    draft.chmod(0o644)
    seen: list[tuple[int, int]] = []
    real = os.fchmod

    def chmod(descriptor: int, mode: int) -> None:
        real(descriptor, mode)
        state = os.fstat(descriptor)
        seen.append((stat.S_IMODE(state.st_mode), state.st_size))

    monkeypatch.setattr("os.fchmod", chmod)
    write_whole(tmp_path / "up.json", b"a secret", mode=0o600)
    assert seen == [(0o600, 0)]
    assert stat.S_IMODE((tmp_path / "up.json").stat().st_mode) == 0o600


def test_a_draft_that_cannot_be_written_leaves_the_file(tmp_path: Path) -> None:
    """The error is the caller's to put into words."""
    file = tmp_path / "a.json"
    write_whole(file, b"old")
    (tmp_path / "a.json.new").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole(file, b"new")
    assert file.read_bytes() == b"old"
