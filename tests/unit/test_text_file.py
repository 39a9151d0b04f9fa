"""A file that a person named is read as UTF-8, or refused in one sentence that says what to do."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from streams import text_file
from streams.text_file import TextFileError, read_text_file
from tests.support.every_command import run, unplugged

TEXT = 'title = "Übersicht"\r\nowner = "Zoë"\r\n'


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8], ids=["without a mark", "with a byte order mark"])
def test_utf_8_is_read_as_it_stands(tmp_path: Path, mark: bytes) -> None:
    """The mark is passed over, and line ends stay as they are."""
    file = tmp_path / "policy.toml"
    file.write_bytes(mark + TEXT.encode())
    assert read_text_file(file) == TEXT


OTHERS = {
    "Latin-1": (
        TEXT.replace("owner", "öwner").replace("Ü", "U").encode("latin-1"),
        "policy.toml is not UTF-8 and cannot be read: byte 0xf6 in line 2. Save it as UTF-8.",
    ),
    "UTF-16": (TEXT.encode("utf-16"), "policy.toml is UTF-16 and cannot be read: save it as UTF-8."),
    "UTF-16, the other way round": (
        codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
        "policy.toml is UTF-16 and cannot be read: save it as UTF-8.",
    ),
    "UTF-32": (TEXT.encode("utf-32"), "policy.toml is UTF-32 and cannot be read: save it as UTF-8."),
}


@pytest.mark.parametrize(("content", "want"), OTHERS.values(), ids=OTHERS.keys())
def test_another_encoding_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, want: str) -> None:
    """With the line where it shows, where it does not say so itself."""
    monkeypatch.chdir(tmp_path)
    Path("policy.toml").write_bytes(content)
    with pytest.raises(TextFileError) as refused:
        read_text_file("policy.toml")
    assert str(refused.value) == want


@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "JSON"])
def test_a_name_that_is_not_utf_8_is_shown_escaped(tmp_path: Path, form: tuple[str, ...]) -> None:
    """Whether the file is good, or is not there."""
    name = "caf\udce9.toml"
    with unplugged(tmp_path):
        missing = run("policy", "check", name, *form)
        Path(name).write_text("")
        good = run("policy", "check", name, *form)
    assert (missing.code, good.code) == (2, 0)
    assert "cannot be read" in missing.stderr
    assert "\\udce9.toml" in missing.stderr
    assert "\\udce9.toml" in good.stdout


def test_what_is_no_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing one, a directory, a name that no file can have, and one without an end."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(text_file, "BYTES_MAX", 2**20)
    for path, want in {
        "nothing.toml": "nothing.toml cannot be read: No such file or directory.",
        ".": ". cannot be read: Is a directory.",
        "a\0b": r"a\u0000b cannot be read: no file has such a name.",
        "/dev/zero": "/dev/zero cannot be read: it is larger than 1 MiB.",
    }.items():
        with pytest.raises(TextFileError) as refused:
            read_text_file(path)
        assert str(refused.value) == want
