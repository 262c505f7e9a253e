"""What the dashboard needs of the rest of the server; ``emotion_monitor/dashboard.py`` fills it in.

Plain data and callables, so that nothing here knows engines, settings or clients.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from dashboard.live.tiles import StreamStatus
from ser_engine.schema import LabelName, Severity
from stream_server.at_rest import Keys
from stream_server.bus import Bus
from stream_server.feeds.source import FeedSource
from stream_server.recording import Recordings
from stream_server.rights import Halt, RightsConfig
from stream_server.store import Store
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.messages import Told


class EngineView(msgspec.Struct, frozen=True, kw_only=True):
    """An engine that is open.

    Attributes:
        name: of its model.
        notice: what must be said wherever the model is in use, or "".
        labels: its classes, in the order of ``posteriors``.
        streams: how many use it.
        pending: how many windows wait for it.
        is_alive: False: it has failed and scores nothing.
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
        total_bytes: None: not known yet.
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
        form: ``built in``, ``published`` or ``prepared``.
        size_bytes: of its weights.
        sha256: of the weight file as published, hex; "": not known before it is first read.
    """

    name: str
    form: str
    size_bytes: int
    licence: str
    sha256: str


class RuleView(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that raises alerts, as charts show it.

    Attributes:
        labels: whose smoothed posteriors are added.
        roles: that it watches; none: every analysed one.
        threshold: from which sum on its condition holds, 0 to 1.
        hold_s: speech time for which it has to hold.
    """

    name: str
    labels: tuple[str, ...]
    roles: tuple[str, ...]
    threshold: float
    hold_s: float
    severity: Severity


@dataclass(frozen=True, slots=True, kw_only=True)
class RightsBackend:
    """Consent, objection and oversight of a server.

    Attributes:
        halt: returns the last word of an overseer.
        set_halt: halts all analysis, or lets it go on.
        tell: takes note of consent; False if the stream is not live.
        object: ends a stream, erases what is kept of it; False if it is not live.
        erase_stream: erases a stream that has ended; False if there was nothing.
        purge: leaves nothing of what was erased in the files of the database, if that can be.
        hashed: returns a value as metadata hold it that are pseudonymised.
    """

    config: RightsConfig
    halt: Callable[[], Halt]
    set_halt: Callable[[Halt], Awaitable[None]]
    tell: Callable[[str, Told], bool]
    object: Callable[[str], Awaitable[bool]]
    erase_stream: Callable[[str], Awaitable[bool]]
    purge: Callable[[], Awaitable[bool]]
    hashed: Callable[[str], str]


class AnalysisError(Exception):
    """A file cannot be analysed.

    Args:
        message: for the person who sent the file; it names no path.
        code: one of :data:`~dashboard.errors.API_ERRORS`.
    """

    def __init__(self, message: str, *, code: str = "bad_audio") -> None:
        super().__init__(message)
        self.code = code


class BusyError(Exception):
    """A limit on what happens at the same time is reached."""


@dataclass(frozen=True, slots=True)
class AnalysisRequest:
    """A file to analyse.

    Attributes:
        name: what its owner calls it, to be named in results.
        options: the fields of :class:`~dashboard.jobs.options.Options`.
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
        summary: the fields of :class:`~dashboard.pages.analyse.routes.JobSummary`.
        cache_key: of the file's bytes, the model that was used and the settings.
    """

    duration_s: float
    summary: dict[str, Any]
    cache_key: str


class Analyse(Protocol):
    """Analyses a file; live streams go first. Cancelled, it stops after the present pass."""

    def key(self, request: AnalysisRequest) -> str:
        """Return the ``cache_key`` that a result of the file would have now.

        Raises:
            AnalysisError: no model is ready.
        """
        ...

    async def __call__(
        self, request: AnalysisRequest, progress: Callable[[float], None]
    ) -> Analysed:
        """Write a result's files, see :mod:`dashboard.results`.

        ``progress`` is called with how much is done, 0 to 1, from any thread.

        Raises:
            AnalysisError: the file is no recording, or cannot be scored.
        """
        ...


@dataclass(frozen=True, slots=True)
class Backend:
    """The rest of the server.

    Attributes:
        store: None: results are not stored.
        recordings: None: audio is not stored.
        config: returns every setting in effect.
        stream_status: returns how a stream is doing, None if it is not live here.
        presets: options of files by the name of their preset.
        sample_audio: returns the sample call as a WAV file.
        play_sample_call: streams the sample call to this server, for a team, and returns its id;
            raises BusyError if too many are being played.
        rights: consent, objection, oversight; None: of nobody.
        keys: by which audio is encrypted on the disk; None: it is not.
        acknowledged: is told of each alert that was acknowledged, for the pages of other servers.
        named: called with each stream in which a speaker was named, for the same pages.
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
    play_sample_call: Callable[[str], Awaitable[str]]
    rights: RightsBackend | None = None
    keys: Keys | None = None
    rules: tuple[RuleView, ...] = ()
    acknowledged: Callable[[str], None] = lambda alert_id: None
    named: Callable[[str], None] = lambda stream_id: None
