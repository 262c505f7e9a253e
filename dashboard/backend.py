"""What the dashboard needs of the rest of the server; the composition root fills it in.

Everything is plain data or a callable, so that nothing here knows engines, settings or clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from dashboard.live.tiles import StreamStatus
from ser_engine.schema import LabelName
from stream_server.bus import Bus
from stream_server.feeds.source import FeedSource
from stream_server.recording import Recordings
from stream_server.store import Store
from stream_server.streams.live_streams import LiveStreams

__all__ = [
    "Analyse",
    "Analysed",
    "AnalysisError",
    "AnalysisRequest",
    "Backend",
    "BusyError",
    "EngineView",
    "KnownModel",
    "ModelsView",
    "UpgradeView",
]


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that is open.

    Attributes:
        name: of its model.
        licence: of the model's weights.
        notice: what must be said wherever it is in use, or "".
        runtime: how it is executed.
        labels: its classes, in the order of ``posteriors``.
        takes_new_streams: whether it is the one new streams use.
        streams: how many use it.
        pending: windows that wait for it.
        is_alive: whether it scores.
    """

    name: str
    licence: str
    notice: str
    runtime: str
    labels: tuple[LabelName, ...]
    takes_new_streams: bool
    streams: int
    pending: int
    is_alive: bool


class UpgradeView(msgspec.Struct, frozen=True, kw_only=True):
    """A model that is fetched while the server runs.

    Attributes:
        state: ``idle``, ``fetching``, ``warming``, ``ready`` or ``failed``.
        model, licence, hub: which, or "".
        done_bytes: what has arrived.
        total_bytes: what there is; None: not known yet.
        reason: why it failed, or "".
    """

    state: str
    model: str
    licence: str
    hub: str
    done_bytes: int
    total_bytes: int | None
    reason: str


class ModelsView(msgspec.Struct, frozen=True, kw_only=True):
    """All engines, the one new streams use first; none while the first one is being loaded."""

    is_ready: bool
    engines: tuple[EngineView, ...]
    upgrade: UpgradeView


class KnownModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model on this machine's disk.

    Attributes:
        name: of the model.
        form: ``built in``, ``published`` or ``prepared``.
        size_bytes: of its weights.
        licence: of its weights.
        sha256: of the weight file as published, hex; "": not known before it is first read.
    """

    name: str
    form: str
    size_bytes: int
    licence: str
    sha256: str


class AnalysisError(Exception):
    """A file cannot be analysed; the message is for whoever gave it, and names no path.

    Args:
        message: what was got and what was expected.
        code: one of :data:`~dashboard.errors.API_ERRORS`.
    """

    def __init__(self, message: str, *, code: str = "bad_audio") -> None:
        super().__init__(message)
        self.code = code


class BusyError(Exception):
    """There is as much of it as may be at a time."""


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """A file to analyse.

    Attributes:
        path: where it is.
        name: what its owner calls it, to be told in results.
        options: what is asked for, see :class:`~dashboard.api.analyse.Options`.
        folder: empty; the result's files go there.
        content_sha256: of the file's bytes, hex.
    """

    path: Path
    name: str
    options: Mapping[str, Any]
    folder: Path
    content_sha256: str


@dataclass(frozen=True, slots=True)
class Analysed:
    """A file that has been analysed.

    Attributes:
        duration_s: of the recording.
        summary: of the result, for lists.
        cache_key: of the file's bytes, the model that was used and the settings.
    """

    duration_s: float
    summary: dict[str, Any]
    cache_key: str


class Analyse(Protocol):
    """Analyses a file; live streams go first. Cancelled, it stops soon."""

    def key(self, request: AnalysisRequest) -> str:
        """Return the key that a result of the file would have now.

        Raises:
            AnalysisError: nothing can be scored.
        """
        ...

    async def __call__(
        self, request: AnalysisRequest, progress: Callable[[float], None]
    ) -> Analysed:
        """Write a result's files, see :mod:`dashboard.results.files`.

        Args:
            request: what is asked for.
            progress: told how much is done, 0 to 1; in any thread.

        Raises:
            AnalysisError: it is no such file, or cannot be scored.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """The rest of the server.

    Attributes:
        version: of the project.
        bus: where results are published.
        live: how the live streams stand.
        feed: makes subscriptions.
        store: what is kept; None: nothing is.
        recordings: the audio that is kept; None: none is.
        analyse_roles: roles that are analysed.
        ingest_port: returns the port audio comes in at.
        models: returns the engines.
        known_models: lists the models on disk.
        config: returns every setting in effect.
        stream_status: returns how a stream is doing; None: it is not live here.
        analyse: analyses files.
        presets: options of files by the name of their preset.
        sample_audio: returns the sample call as a WAV file.
        play_sample_call: streams the sample call to this server and returns the stream's id;
            BusyError where too many are being played.
    """

    version: str
    bus: Bus
    live: LiveStreams
    feed: FeedSource
    store: Store | None
    recordings: Recordings | None
    analyse_roles: tuple[str, ...]
    ingest_port: Callable[[], int]
    models: Callable[[], ModelsView]
    known_models: Callable[[], Awaitable[tuple[KnownModel, ...]]]
    config: Callable[[], Mapping[str, Any]]
    stream_status: Callable[[str], StreamStatus | None]
    analyse: Analyse
    presets: Mapping[str, Mapping[str, Any]]
    sample_audio: Callable[[], Awaitable[bytes]]
    play_sample_call: Callable[[], Awaitable[str]]
