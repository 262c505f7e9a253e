"""A hub client that copies from a folder, under a test's control."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from ser_engine.models.hub import Report

__all__ = ["FakeHub"]


class FakeHub:
    """Stands for one hub. ``url`` is where it is probed; "" makes it unreachable at once."""

    def __init__(
        self, name: str = "huggingface", url: str = "", published: Path | None = None
    ) -> None:
        self.name = name
        self.url = url
        self.published = published
        self.cached: list[Path] = []
        self.asked: list[str] = []
        self.before: Callable[[Path, Report], None] = lambda folder, report: None
        """Called in a download before the files are copied."""

    def endpoint(self) -> str:
        self.asked.append("endpoint")
        if not self.url:
            raise OSError("unreachable")
        return self.url

    def cached_folders(self, repo_id: str) -> list[Path]:
        return [folder / repo_id.split("/")[1] for folder in self.cached]

    def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
        self.asked.append(repo_id)
        self.before(folder, report)
        assert self.published is not None
        total = sum((self.published / name).stat().st_size for name in files)
        done = 0
        for name in files:
            shutil.copy(self.published / name, folder / name)
            done += (self.published / name).stat().st_size
            report(done, total)
