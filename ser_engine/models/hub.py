"""Fetch a published model from a hub: known to be unreachable in seconds, never half there.

::

    probe all hubs at once ──▶ first that answers ──▶ <models_dir>/.partial/<name>-<hub>/
             │ none within timeout_s                              │ all files complete
             ▼                                                    ▼
    HubUnavailableError                              <models_dir>/<name>/

A download that ends early stays in ``.partial`` and is resumed by the next one. A folder of the
model's name only ever gets complete files, the weights last.
"""

from __future__ import annotations

import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ser_engine.errors import HubUnavailableError
from ser_engine.models.folder import (
    CONFIG_FILE,
    HUB_FILE,
    TOKENS_FILE,
    WEIGHTS_FILE,
    is_published_folder,
)
from ser_engine.models.hub_clients import Cancelled, HubClient, HuggingFace, ModelScope
from ser_engine.models.probe import answers

__all__ = ["HUB_CLIENTS", "FetchProgress", "ProgressCallback", "fetch"]

HUB_CLIENTS: tuple[HubClient, ...] = (ModelScope(), HuggingFace())
"""The hubs models are published on."""

_FILES = (CONFIG_FILE, TOKENS_FILE, HUB_FILE, WEIGHTS_FILE)
"""What is fetched; moved in this order, so that the weights come last."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a download has come.

    Attributes:
        model: name of the model.
        hub: name of the hub.
        done_bytes: bytes that have arrived.
        total_bytes: bytes there are, of the files known so far; None: not known yet.
    """

    model: str
    hub: str
    done_bytes: int
    total_bytes: int | None


ProgressCallback = Callable[[FetchProgress], None]
"""Called from threads of the hub's client. What it raises ends the download."""


def fetch(
    model: str,
    models_dir: Path,
    *,
    hub: str = "auto",
    timeout_s: float = 5.0,
    stall_timeout_s: float = 60.0,
    progress: ProgressCallback | None = None,
    clients: Sequence[HubClient] = HUB_CLIENTS,
) -> Path:
    """Fetch a model into ``models_dir`` and return its folder; at once if it is there already.

    Args:
        model: e.g. ``emotion2vec_plus_base``.
        models_dir: where models are kept; made if needed.
        hub: ``auto``: whichever answers first, then the other; or the name of one.
        timeout_s: longest wait for a first answer of any hub.
        stall_timeout_s: longest time without new bytes before a download is given up.
        progress: told how far the download has come.
        clients: the hubs there are.

    Raises:
        HubUnavailableError: no hub answered in time, or the download failed.
    """
    target = models_dir / model
    if is_published_folder(target):
        return target
    wanted = {client.name: client for client in clients if hub in ("auto", client.name)}
    failures: list[str] = []
    endpoints = {name: client.endpoint for name, client in wanted.items()}
    for name, problem in answers(endpoints, timeout_s):
        if not problem:
            try:
                with _only_one(models_dir, model):
                    if not is_published_folder(target):
                        _fetch_from(wanted[name], model, models_dir, stall_timeout_s, progress)
                return target
            except HubUnavailableError as error:
                problem = str(error)
            except OSError as error:
                problem = f"{models_dir} cannot be written: {error}"
        _log.info("%s not fetched from %s: %s", model, name, problem)
        failures.append(f"{name}: {problem}")
    raise HubUnavailableError(
        f"got no {model} from a hub ({'; '.join(failures)}); check the network and proxy, or copy"
        f" the model's folder to {target}"
    )


def _fetch_from(
    client: HubClient,
    model: str,
    models_dir: Path,
    stall_timeout_s: float,
    progress: ProgressCallback | None,
) -> None:
    partial = models_dir / ".partial" / f"{model}-{client.name}"
    partial.mkdir(parents=True, exist_ok=True)
    watch = _Watch(partial)

    def report(done_bytes: int, total_bytes: int | None) -> None:
        watch.note()
        if progress is not None:
            progress(FetchProgress(model, client.name, done_bytes, total_bytes))

    def download() -> None:
        client.download(client.repo_id(model), partial, list(_FILES), report)

    watch.run(download, stall_timeout_s)
    if not is_published_folder(partial):
        there = sorted(path.name for path in partial.iterdir() if path.is_file())
        raise HubUnavailableError(
            f"the repository {client.repo_id(model)} gave {', '.join(there) or 'no files'},"
            f" expected {CONFIG_FILE}, {TOKENS_FILE} and {WEIGHTS_FILE}"
        )
    target = models_dir / model
    target.mkdir(exist_ok=True)
    for name in _FILES:
        if (partial / name).is_file():
            os.replace(partial / name, target / name)
    shutil.rmtree(partial, ignore_errors=True)


class _Watch:
    """Runs a download in a thread of its own and gives it up when nothing more arrives.

    The client's own timeouts are per request and it retries, so they do not bound the whole. The
    thread cannot be killed; it is told to end at the next sign of life, and does not keep the
    process from exiting.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cancelled = False
        self._last_s = time.monotonic()
        self._size = 0

    def note(self) -> None:
        """Note that bytes have arrived."""
        if self._cancelled:
            raise Cancelled
        self._last_s = time.monotonic()

    def run(self, download: Callable[[], None], stall_timeout_s: float) -> None:
        """Run ``download`` to its end.

        Raises:
            HubUnavailableError: it failed, or brought nothing for ``stall_timeout_s``.
        """
        failure: list[Exception] = []
        ended = threading.Event()

        def work() -> None:
            try:
                download()
            except Exception as error:
                failure.append(error)
            finally:
                ended.set()

        self._last_s = time.monotonic()
        threading.Thread(target=work, name="hub-download", daemon=True).start()
        while not ended.wait(min(1.0, stall_timeout_s / 4)):
            # Not every client tells of every byte; what grows on disk counts as well.
            size = _size_of(self._folder)
            if size != self._size:
                self._size = size
                self._last_s = time.monotonic()
            elif time.monotonic() - self._last_s > stall_timeout_s:
                self._cancelled = True
                raise HubUnavailableError(f"nothing arrived for {stall_timeout_s:g} s")
        if failure:
            error = failure[0]
            said = (str(error).splitlines() or [""])[0][:200]
            raise HubUnavailableError(f"{type(error).__name__}: {said}") from error


@contextmanager
def _only_one(models_dir: Path, model: str) -> Iterator[None]:
    """Wait until no other process fetches the model. A process that dies lets go."""
    folder = models_dir / ".partial"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{model}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _size_of(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks
            except OSError:
                continue
    return total
