"""Fetch a published model from a hub: known to be unreachable in seconds, never half there.

::

    probe all hubs at once ──▶ first that answers ──▶ <models_dir>/.partial/<name>-<hub>/
             │ none within timeout_s                              │ all files complete
             ▼                                                    ▼
    HubUnavailableError                              <models_dir>/<name>/

A download that ends early stays in ``.partial`` and is resumed by the next one. A folder of the
model's name only ever gets complete files, the weights last.

A hub's client retries and waits for minutes where a firewall drops packets. One HEAD request,
made in a thread that is not waited for longer than the caller can afford, tells beforehand. The
thread bounds what a socket timeout does not: name resolution, and a server that sends a byte now
and then. Proxies are taken from the environment, as the clients do.

The clients are those FunASR itself downloads with, used without importing FunASR, which takes
seconds. Addresses, caches, credentials and proxies are theirs; nothing of that kind is known
here. Imports are made when a hub is first used.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib
import json
import logging
import os
import queue
import shutil
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ser_engine.errors import HubUnavailableError

_GATEWAY_ERRORS = (502, 503, 504)
"""Sent by something in front of an endpoint that does not reach it."""


def answers(
    endpoints: Mapping[str, Callable[[], str]], timeout_s: float
) -> Iterator[tuple[str, str]]:
    """Probe all endpoints at once; yield each name with "" or what went wrong, as it is known.

    Args:
        endpoints: gives an endpoint's URL by its name. The callable runs in the thread, too: a
            client library may take long to import.
        timeout_s: all names are yielded within this time after the first is asked for, those
            that have not answered last.
    """
    results: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    deadline = time.monotonic() + timeout_s

    def probe(name: str, endpoint: Callable[[], str]) -> None:
        try:
            _request(endpoint(), timeout_s)
        except Exception as error:
            results.put((name, str(error) or type(error).__name__))
        else:
            results.put((name, ""))

    for name, endpoint in endpoints.items():
        threading.Thread(target=probe, args=(name, endpoint), name="hub-probe", daemon=True).start()
    waiting = list(endpoints)
    while waiting:
        try:
            name, error = results.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            break
        waiting.remove(name)
        yield name, error
    for name in waiting:
        yield name, f"no answer within {timeout_s:g} s"


def _request(url: str, timeout_s: float) -> None:
    request = urllib.request.Request(url, method="HEAD")
    if request.type not in ("http", "https"):
        raise OSError(f"{url} is no HTTP address")
    try:
        urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s).close()
    except urllib.error.HTTPError as error:
        # Any status is an answer, save a gateway's that what is behind it is not there.
        error.close()
        if error.code in _GATEWAY_ERRORS:
            raise OSError(f"HTTP status {error.code}") from None
    except urllib.error.URLError as error:
        # The client may trust certificates that Python's defaults do not.
        if not isinstance(error.reason, ssl.SSLError):
            raise OSError(str(error.reason)) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: Any, **_kwargs: Any) -> None:
        return None


@dataclass(frozen=True, slots=True)
class Published:
    """A model as the hubs have it.

    Attributes:
        name: what its folder is called on this disk.
        repositories: where it is, by the name of the hub, e.g. ``organisation/name``.
        files: what is fetched and must be there, ...
        optional_files: ... and what is fetched where there is any.
        sha256: of files whose bytes are known, hex by name; the others are pinned by their first
            download.
    """

    name: str
    repositories: Mapping[str, str]
    files: tuple[str, ...]
    optional_files: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def is_complete(self, folder: Path) -> bool:
        return all((folder / name).is_file() for name in self.files)


Report = Callable[[int, int | None], None]
"""Told ``(done_bytes, total_bytes)`` of all files together; raises Cancelled to stop."""


class Cancelled(Exception):
    """Raised by a Report to end the download it is told about."""


class HubClient(Protocol):
    """One hub: where it is, what it has left on this disk, and how a model is fetched."""

    name: str

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

    def endpoint(self) -> str:
        return str(_modelscope_config().endpoint)

    def cached_folders(self, repo_id: str) -> list[Path]:
        root = Path(_modelscope_config().cache_dir)
        snapshots = root / "models" / repo_id.replace("/", "--") / "snapshots"
        earlier = ("models", "hub/models", "hub", ".")
        return [*_newest_first(snapshots), *(root / part / repo_id for part in earlier)]

    def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
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

    def endpoint(self) -> str:
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            raise OSError("huggingface_hub is set to offline")
        return str(constants.ENDPOINT)

    def cached_folders(self, repo_id: str) -> list[Path]:
        from huggingface_hub import constants

        folder = Path(constants.HF_HUB_CACHE) / f"models--{repo_id.replace('/', '--')}"
        return _newest_first(folder / "snapshots")

    def download(self, repo_id: str, folder: Path, files: list[str], report: Report) -> None:
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


def cached_folders(model: Published, clients: Sequence[HubClient]) -> list[Path]:
    """Return where the hubs' own clients may have left a model; none need exist."""
    places: list[Path] = []
    for client in clients:
        repository = model.repositories.get(client.name)
        if repository is None:
            continue
        try:
            places += client.cached_folders(repository)
        except ImportError:  # Its client is not installed.
            continue
    return places


HUB_CLIENTS: tuple[HubClient, ...] = (ModelScope(), HuggingFace())
"""The hubs models are published on."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FetchProgress:
    """How far a download has come.

    Attributes:
        total_bytes: bytes there are, of the files known so far; None: not known yet.
    """

    model: str
    hub: str
    done_bytes: int
    total_bytes: int | None


ProgressCallback = Callable[[FetchProgress], None]
"""Called from threads of the hub's client. What it raises ends the download."""


def fetch(
    model: Published,
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
        models_dir: where models are kept; made if needed.
        hub: ``auto``: whichever answers first, then the other; or the name of one.
        timeout_s: longest wait for a first answer of any hub.
        stall_timeout_s: longest time without new bytes before a download is given up.
        progress: told how far the download has come.

    Raises:
        HubUnavailableError: no hub answered in time, or the download failed.
    """
    target = models_dir / model.name
    if model.is_complete(target):
        return target
    wanted = {
        client.name: client
        for client in clients
        if hub in ("auto", client.name) and client.name in model.repositories
    }
    failures: list[str] = []
    endpoints = {name: client.endpoint for name, client in wanted.items()}
    for name, problem in answers(endpoints, timeout_s):
        if not problem:
            try:
                with _only_one(models_dir, model.name):
                    if not model.is_complete(target):
                        _fetch_from(wanted[name], model, models_dir, stall_timeout_s, progress)
                return target
            except HubUnavailableError as error:
                problem = str(error)
            except OSError as error:
                problem = f"{models_dir} cannot be written: {error}"
        _log.info("%s not fetched from %s: %s", model.name, name, problem)
        failures.append(f"{name}: {problem}")
    raise HubUnavailableError(
        f"got no {model.name} from a hub ({'; '.join(failures)}); check the network and proxy, or"
        f" copy the model's folder to {target}"
    )


def _fetch_from(
    client: HubClient,
    model: Published,
    models_dir: Path,
    stall_timeout_s: float,
    progress: ProgressCallback | None,
) -> None:
    partial = models_dir / ".partial" / f"{model.name}-{client.name}"
    partial.mkdir(parents=True, exist_ok=True)
    watch = _Watch(partial)

    def report(done_bytes: int, total_bytes: int | None) -> None:
        watch.note()
        if progress is not None:
            progress(FetchProgress(model.name, client.name, done_bytes, total_bytes))

    repository = model.repositories[client.name]
    # The last of the needed files comes last of all: a folder that has it is complete.
    files = [*model.files[:-1], *model.optional_files, model.files[-1]]
    watch.run(lambda: client.download(repository, partial, files, report), stall_timeout_s)
    if not model.is_complete(partial):
        there = sorted(path.name for path in partial.iterdir() if path.is_file())
        raise HubUnavailableError(
            f"the repository {repository} gave {', '.join(there) or 'no files'}, expected"
            f" {', '.join(model.files)}"
        )
    pins = _checked_hashes(model, partial, files, models_dir)
    target = models_dir / model.name
    target.mkdir(exist_ok=True)
    for name in files:
        if (partial / name).is_file():
            os.replace(partial / name, target / name)
    _pins_of(model, models_dir).parent.mkdir(exist_ok=True)
    _pins_of(model, models_dir).write_text(json.dumps(pins, indent=1), encoding="utf-8")
    shutil.rmtree(partial, ignore_errors=True)


def _pins_of(model: Published, models_dir: Path) -> Path:
    return models_dir / ".pins" / f"{model.name}.json"


def _checked_hashes(
    model: Published, folder: Path, files: Sequence[str], models_dir: Path
) -> dict[str, str]:
    """Return the SHA-256 of what was fetched, by name of the file.

    Raises:
        HubUnavailableError: a file is not the one that is known, or that was fetched first.
    """
    path = _pins_of(model, models_dir)
    first: dict[str, str] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    pins = dict(first)
    for name in files:
        if not (folder / name).is_file():
            continue
        with (folder / name).open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        expected = model.sha256.get(name) or first.get(name) or found
        if found != expected:
            # Not kept: it would be taken for a part of a download that can go on.
            shutil.rmtree(folder, ignore_errors=True)
            raise HubUnavailableError(
                f"got {name} of {model.name} with the SHA-256 {found}, expected {expected}; if its"
                f" makers have published it anew, delete {path} to trust it"
            )
        pins[name] = found
    return pins


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
