"""Every link of the documentation to a file, a picture or a heading leads somewhere."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.requirements import REPOSITORY

_LINK = re.compile(r'\]\(([^)\s]+)\)|(?:src|srcset)="([^"]+)"')
_BLOCK = re.compile(r"```.*?```", re.DOTALL)
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)


def pages() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    return [path for name in listed.stdout.split() if (path := REPOSITORY / name).exists()]


def anchors(page: Path) -> set[str]:
    """Return the fragments that lead to a heading of the page, as GitHub makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
        for heading in _HEADING.findall(text)
    }


def broken_links(page: Path) -> list[str]:
    found = []
    for match in _LINK.finditer(_BLOCK.sub("", page.read_text(encoding="utf-8"))):
        link = match[1] or match[2]
        if re.match("https?:|mailto:", link):
            continue
        name, _, fragment = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (
            fragment and target.suffix == ".md" and fragment not in anchors(target)
        ):
            found.append(f"{page.relative_to(REPOSITORY)}: {link}")
    return found


def test_no_link_is_broken():
    assert [link for page in pages() for link in broken_links(page)] == []


def test_every_page_is_in_the_index():
    index = (REPOSITORY / "docs" / "README.md").read_text(encoding="utf-8")
    missing = [
        name
        for page in (REPOSITORY / "docs").rglob("*.md")
        if f"({(name := page.relative_to(REPOSITORY / 'docs').as_posix())}" not in index
    ]
    assert missing == ["README.md"]
