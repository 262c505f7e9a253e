"""The site is built without a warning, and has what stands outside docs/ and in docstrings."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.site import with_site_links
from tests.requirements import REPOSITORY


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--site-dir", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    # Strict: a link or page that leads nowhere is an error.
    assert built.returncode == 0, built.stderr
    return folder


def test_the_python_reference_is_made_of_docstrings(site: Path):
    page = (site / "python-reference.html").read_text("utf-8")
    for name in ("ser_engine.files.run.analyze", "mic_client.stream_client.StreamClient"):
        assert f'id="{name}"' in page
    assert "Analyse a recording." in page


def test_settings_and_cards_are_pages(site: Path):
    assert "abstain_margin" in (site / "settings.html").read_text("utf-8")
    assert "Model card" in (site / "model-standard.html").read_text("utf-8")


def test_a_page_in_another_language_is_there(site: Path):
    assert "仪表盘" in (site / "zh" / "dashboard.html").read_text("utf-8")


def test_the_site_loads_nothing_from_elsewhere(site: Path):
    page = (site / "index.html").read_text("utf-8")
    loaded = re.findall(r'<(?:script|img|source)[^>]* src(?:set)?="([^"]+)"', page)
    loaded += re.findall(r'<link[^>]* rel="stylesheet"[^>]* href="([^"]+)"', page)
    assert loaded
    assert not [address for address in loaded if re.match("(https?:)?//", address)]


@pytest.mark.parametrize(
    ("source", "link", "expected"),
    [
        ("docs/how-to/install.md", "[law](law.md#x)", "[law](law.md#x)"),
        ("docs/how-to/install.md", "[settings](../../config.yaml)", "[settings](../settings.md)"),
        ("docs/zh/law.md", "[a](../how-to/a.md)", "[a](../how-to/a.md)"),
        ("docs/zh/law.md", "[a](../../LICENSE)", "a (`LICENSE`)"),
        ("CHANGELOG.md", "[law](docs/explanation/law.md)", "[law](explanation/law.md)"),
        ("docs/a.md", "[`b`](../b.py)", "`b`"),
        ("docs/a.md", "[c](https://example.org/d.md)", "[c](https://example.org/d.md)"),
    ],
)
def test_links_lead_to_pages_of_the_site_or_become_names(source: str, link: str, expected: str):
    assert with_site_links(link, source) == expected
