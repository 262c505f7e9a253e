"""What MkDocs does not find in ``docs/``: a hook of ``mkdocs.yml``.

Pages that stand where GitHub looks for them, settings and the Python interface become pages of the
site; a link of any page to one of those leads there, and a link to a file of the source becomes its
name. Nothing is written into ``docs/``.
"""

from __future__ import annotations

import posixpath
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent

PAGES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "SECURITY.md": "security-policy.md",
    "ser_engine/models/standard/MODEL_CARD.md": "model-standard.md",
    "ser_engine/models/compact/MODEL_CARD.md": "model-compact.md",
}
"""Of the repository, and what they are called on the site."""

PYTHON_FACES = ("ser_engine", "mic_client", "emotion_monitor.in_process")

_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s]+)\)")


@cache
def platforms() -> dict[str, str]:
    """Return the pages of telephone platforms, as :data:`PAGES`."""
    found = sorted((ROOT / "stream_server/platforms").glob("*/README.md"))
    return {path.relative_to(ROOT).as_posix(): f"platform-{path.parent.name}.md" for path in found}


@cache
def _all_pages() -> dict[str, str]:
    return PAGES | platforms() | {"config.yaml": "settings.md", "NOTICE": "notice.md"}


@cache
def generated() -> dict[str, str]:
    """Return the pages that are no file of ``docs/``: name and Markdown."""
    pages = {
        name: with_site_links((ROOT / source).read_text("utf-8"), source)
        for source, name in (PAGES | platforms()).items()
    }
    settings = (ROOT / "config.yaml").read_text("utf-8")
    pages["settings.md"] = (
        "# Settings\n\nEvery setting with its default, unit and range: what `emotion-monitor"
        " config --defaults` prints.\n\n```yaml\n" + settings + "```\n"
    )
    notice = (ROOT / "NOTICE").read_text("utf-8")
    pages["notice.md"] = f"# Credits and licences\n\n```text\n{notice}```\n"
    pages["telephone-platforms.md"] = "# Telephone platforms\n\n" + "".join(
        f"- [{_title(pages[name])}]({name})\n" for name in platforms().values()
    )
    pages["python-reference.md"] = (
        "# Python reference\n\nMade of the docstrings."
        " [How the parts are used](reference/python.md).\n\n"
        + "\n\n".join(f"## {module}\n\n{_members(module)}" for module in PYTHON_FACES)
    )
    return pages


def with_site_links(markdown: str, source: str) -> str:
    """Return a page of the repository with the links it has on the site."""
    folder = posixpath.dirname(source)
    # Pages of docs/ may lie in a folder of it; generated ones lie at the top.
    own = posixpath.relpath(folder, "docs") if folder.startswith("docs") else "."

    def replaced(match: re.Match[str]) -> str:
        text, link = match[1], match[2]
        if re.match(r"https?:|mailto:|#", link):
            return match[0]
        name, hash_, fragment = link.partition("#")
        path = posixpath.normpath(posixpath.join(folder, name))
        target = _all_pages().get(path)
        if path == "README.md":
            target = "README.md"
        if target is None and path.startswith("docs/"):
            target = path.removeprefix("docs/")
        if target is None:
            return text if text.startswith("`") else f"{text} (`{path}`)"
        return f"[{text}]({posixpath.relpath(target, own)}{hash_}{fragment})"

    return _LINK.sub(replaced, markdown)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the generated pages. Called by MkDocs."""
    from mkdocs.structure.files import File

    for name, text in generated().items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the links of pages in ``docs/`` right. Called by MkDocs."""
    if page.file.src_uri in generated():
        return markdown
    return with_site_links(markdown, f"docs/{page.file.src_uri}")


def _title(markdown: str) -> str:
    return markdown.removeprefix("# ").partition("\n")[0]


def _members(module: str) -> str:
    """Return the directives of what a module offers, each by where it is defined."""
    face = import_module(module)
    lines = []
    for name in sorted(face.__all__):
        value = getattr(face, name)
        if isinstance(value, type) or callable(value):
            lines.append(f"::: {value.__module__}.{name}")
    return "\n\n".join(lines)
