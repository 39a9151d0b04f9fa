"""The pages agree with the code: links and paths lead to files, tables are current, every page can be found."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from streams.commands.settings import markdown_table

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETTINGS = (ROOT / "docs" / "settings.md").read_text()
PAGES = ["README.md", *sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]
#: These name code as it is now; ADRs and reports name it as it was.
PAGES_ON_CODE = ["README.md", "docs/architecture.md", "docs/contributing.md"]


def test_the_settings_table_is_current() -> None:
    """`slotwise settings --markdown` writes what stands between the markers."""
    written = SETTINGS.partition("<!-- settings:")[2].partition("-->\n")[2].partition("\n<!-- end of settings -->")[0]
    assert written == "\n".join(markdown_table()), "run `slotwise settings --markdown` and paste"


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    """No link of a page leads to a file that is not there."""
    file = ROOT / page
    links = re.findall(r"\]\((?!https?:)([^)#\s]+)", file.read_text())
    assert [link for link in links if not (file.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES_ON_CODE)
def test_paths_lead_somewhere(page: str) -> None:
    """A file or folder of the repository that a page names is there."""
    named = re.findall(r"(?:^|[`\s])((?:streams|schemas|tests|deploy|docs)/[\w./-]*)", (ROOT / page).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_page_is_linked_from_the_readme() -> None:
    """A reader finds every page; decisions have an index of their own."""
    linked = set(re.findall(r"\]\((docs/[^)#]+)", README))
    assert {page for page in PAGES if page.startswith("docs/") and "/adr/" not in page} <= linked
    assert "docs/adr/README.md" in linked


def test_the_index_of_decisions_has_a_line_for_each() -> None:
    """In order, each with its file."""
    folder = ROOT / "docs" / "adr"
    listed = re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", (folder / "README.md").read_text(), re.MULTILINE)
    assert listed == sorted(path.name for path in folder.glob("0*.md"))


def test_the_changelog_has_the_version_that_is_released() -> None:
    """An empty place for what comes next, then the version of pyproject.toml with its date."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    found = re.findall(r"^## \[([^\]]+)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert found[0] == ("Unreleased", "")
    assert found[1][0] == version
    assert found[1][1]
