"""The clients of the two model hubs, behind one small interface.

They are the clients FunASR itself downloads with, used without importing FunASR, which takes
seconds. Addresses, caches, credentials and proxies are theirs; nothing of that kind is known
here. Imports are made when a hub is first used.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

__all__ = [
    "MODEL_NAMES",
    "Cancelled",
    "HubClient",
    "HuggingFace",
    "ModelScope",
    "Report",
]

MODEL_NAMES = ("emotion2vec_plus_large", "emotion2vec_plus_base", "emotion2vec_plus_seed")
"""The published emotion2vec+ models, best first."""

Report = Callable[[int, int | None], None]
"""Told ``(done_bytes, total_bytes)`` of all files together; raises Cancelled to stop."""


class Cancelled(Exception):
    """Raised by a Report to end the download it is told about."""


class HubClient(Protocol):
    """One hub: where it is, what it has left on this disk, and how a model is fetched."""

    name: str

    def repo_id(self, model: str) -> str:
        """Return the repository of a model, e.g. ``organisation/emotion2vec_plus_base``."""

    def endpoint(self) -> str:
        """Return the URL the client will ask.

        Raises:
            ImportError: the client is not installed.
            OSError: the client is set to offline.
        """

    def cached_folders(self, repo_id: str) -> list[Path]:
        """Return folders in which the client may have left a repository; none need exist."""

    def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
        """Fetch ``files`` of a repository into ``folder``, resuming what an earlier call left."""


class ModelScope:
    """ModelScope, through ``modelscope``."""

    name = "modelscope"

    def repo_id(self, model: str) -> str:
        """Return the repository of a model."""
        return f"iic/{model}"

    def endpoint(self) -> str:
        """Return the URL the client will ask."""
        return str(_modelscope_config().endpoint)

    def cached_folders(self, repo_id: str) -> list[Path]:
        """Return the places the client and its earlier versions keep a repository in."""
        root = Path(_modelscope_config().cache_dir)
        snapshots = root / "models" / repo_id.replace("/", "--") / "snapshots"
        earlier = ("models", "hub/models", "hub", ".")
        return [*_newest_first(snapshots), *(root / part / repo_id for part in earlier)]

    def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
        """Fetch files of a repository."""
        from modelscope.hub.callback import ProgressCallback
        from modelscope.hub.snapshot_download import snapshot_download

        meter = _Meter(report)

        class Progress(ProgressCallback):  # type: ignore[misc]
            def __init__(self, filename: str, file_size: int) -> None:
                super().__init__(filename, file_size)
                meter.expect(file_size)

            def update(self, size: int) -> None:
                meter.add(size)

        snapshot_download(
            repo_id,
            local_dir=str(folder),
            allow_file_pattern=files,
            progress_callbacks=[Progress],
        )


class HuggingFace:
    """Hugging Face, through ``huggingface_hub``."""

    name = "huggingface"

    def repo_id(self, model: str) -> str:
        """Return the repository of a model."""
        return f"emotion2vec/{model}"

    def endpoint(self) -> str:
        """Return the URL the client will ask."""
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise OSError("huggingface_hub is set to offline")
        return str(constants.ENDPOINT)

    def cached_folders(self, repo_id: str) -> list[Path]:
        """Return the snapshots the client keeps of a repository."""
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
        return _newest_first(folder / "snapshots")

    def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
        """Fetch files of a repository."""
        from huggingface_hub import snapshot_download

        tqdm: Any = importlib.import_module("tqdm.auto").tqdm
        meter = _Meter(report)

        class Progress(tqdm):  # type: ignore[misc]
            """A bar that draws nothing. The one with bytes is told the sum over all files."""

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self._counts = kwargs.get("unit") == "B"
                kwargs["disable"] = True
                kwargs.pop("name", None)
                super().__init__(*args, **kwargs)

            def update(self, n: float | None = 1) -> None:
                self.n += n or 0
                if self._counts:
                    meter.reach(int(self.n), int(self.total or 0))

        snapshot_download(
            repo_id,
            local_dir=str(folder),
            allow_patterns=files,
            endpoint=self.endpoint(),
            tqdm_class=Progress,
        )


class _Meter:
    """Adds up what a client says of several files, from several threads."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._done = 0
        self._total = 0

    def expect(self, size: int) -> None:
        with self._lock:
            self._total += max(0, size)
        self._tell()

    def add(self, size: int) -> None:
        with self._lock:
            self._done += size
        self._tell()

    def reach(self, done: int, total: int) -> None:
        with self._lock:
            self._done = max(self._done, done)
            self._total = max(self._total, total)
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            done, total = self._done, self._total
        self._report(done, total if total >= done else None)


def _modelscope_config() -> Any:
    # The light half of the client: importing `modelscope` itself takes seconds.
    return importlib.import_module("modelscope_hub.config").get_default_config()


def _newest_first(snapshots: Path) -> list[Path]:
    try:
        found = [path for path in snapshots.iterdir() if path.is_dir()]
        return sorted(found, key=lambda path: path.stat().st_mtime_ns, reverse=True)
    except OSError:
        return []
