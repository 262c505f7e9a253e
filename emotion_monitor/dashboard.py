"""The dashboard put together with a server: its backend, and the sample call it can play."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Iterable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import structlog

from dashboard.app import Dashboard
from dashboard.backend import (
    Backend,
    BusyError,
    EngineView,
    KnownModel,
    ModelsView,
    RightsBackend,
    RuleView,
    UpgradeView,
)
from dashboard.jobs.analyser import PoolAnalyser
from dashboard.live.tiles import StreamStatus
from emotion_monitor.settings import Settings
from mic_client import (
    ArraySource,
    StreamClient,
    StreamOptions,
    load_sample_call,
    tls_of_server,
)
from mic_client.audio_file import SAMPLE_CALL_ROLES
from ser_engine.schema import LabelName
from stream_server.access import Scope, Who
from stream_server.engines.status import EngineStatus, PoolStatus
from stream_server.feeds.source import FeedSource
from stream_server.server import Server
from stream_server.wire.messages import ChannelSpec, Ready

T = TypeVar("T")


def serve_dashboard(settings: Settings, server: Server, source: FeedSource) -> None:
    """Add the dashboard to a server; for its ``serve_more``."""
    token = server.access.book.issue(Who("machine", "", frozenset((Scope.INGEST,))))
    calls = SampleCalls(
        lambda: server.ingest_url, token, None if server.tls is None else server.tls.certificate
    )
    backend = make_backend(settings, server, source, calls)
    dashboard = Dashboard(backend, settings.dashboard)
    dashboard.add_to(server.app)
    server.on_acknowledged_elsewhere = dashboard.wall.acknowledge
    server.on_named_elsewhere = dashboard.live.named
    server.app.on_shutdown.append(lambda _: calls.aclose())


def make_backend(
    settings: Settings, server: Server, source: FeedSource, calls: SampleCalls
) -> Backend:
    """Return the dashboard's interface to a server. It is all that the dashboard knows of one."""
    model_config = settings.ser_engine.model

    async def known_models() -> tuple[KnownModel, ...]:
        # It brings torch along, which a front of workers does without until it is asked.
        from ser_engine.models.registry import inventory

        found = await asyncio.to_thread(inventory, model_config)
        return _views(found, KnownModel)

    def config() -> dict[str, Any]:
        return {name: asdict(getattr(settings, name)) for name in type(settings).model_fields}

    def stream_status(stream_id: str) -> StreamStatus | None:
        heartbeat = server.heartbeat(stream_id)
        return None if heartbeat is None else _view(heartbeat, StreamStatus)

    return Backend(
        version=version("emotion-monitor"),
        bus=server.bus,
        live=server.live_streams,
        feed=source,
        store=server.store,
        recordings=server.recordings,
        analyse_roles=settings.stream_server.streams.analyse_roles,
        ingest_port=lambda: server.ingest_port,
        models=lambda: _models(server.engines.status()),
        known_models=known_models,
        config=config,
        stream_status=stream_status,
        analyse=PoolAnalyser(
            server.engines,
            settings.dashboard.analyse,
            settings.stream_server.streams.analyse_roles,
            server.rights.wait_until_allowed,
        ),
        presets={
            name: asdict(preset) for name, preset in settings.ser_engine.offline.presets.items()
        },
        sample_audio=sample_call_wav,
        play_sample_call=calls.play,
        rights=RightsBackend(
            config=server.rights.config,
            halt=lambda: server.rights.halt,
            set_halt=server.halt,
            tell=server.tell,
            object=server.object,
            erase_stream=server.erase_stream,
            purge=server.purge,
            hashed=server.rights.hashed,
        ),
        keys=server.keys,
        rules=_views(settings.stream_server.alerts.rules, RuleView),
        acknowledged=server.acknowledged,
        named=server.named,
    )


def _view(value: object, kind: type[T]) -> T:
    """Return the fields of a view, which are attributes of a value by the same names."""
    return msgspec.convert(value, kind, from_attributes=True)


def _views(values: Iterable[object], kind: type[T]) -> tuple[T, ...]:
    return tuple(_view(each, kind) for each in values)


def _models(status: PoolStatus) -> ModelsView:
    return ModelsView(
        is_ready=status.is_ready,
        engines=tuple(map(_engine, status.engines)),
        upgrade=_view(status.upgrade, UpgradeView),
    )


def _engine(status: EngineStatus) -> EngineView:
    info = status.info
    return EngineView(
        name=info.name,
        licence=info.licence,
        notice=info.notice,
        runtime=status.runtime,
        labels=_views(info.labels.labels, LabelName),
        takes_new_streams=status.takes_new_streams,
        streams=status.num_streams,
        pending=status.num_pending,
        is_alive=status.is_alive,
    )


_log = structlog.get_logger(__name__)

_MAX_CALLS = 3
_READY_TIMEOUT_S = 15.0


async def sample_call_wav() -> bytes:
    """Return the sample call as a WAV file."""
    return await asyncio.to_thread(_wav)


class SampleCalls:
    """Plays the sample call to this server as an ordinary client.

    ``url`` returns the address for audio, which is known once the server listens. ``certificate``
    None: the server has no TLS.
    """

    def __init__(self, url: Callable[[], str], token: str, certificate: Path | None = None) -> None:
        self._url = url
        self._certificate = certificate
        self._token = token
        self._calls: set[asyncio.Task[None]] = set()

    async def play(self, team: str) -> str:
        """Begin a call of a team; return its stream's id.

        Raises:
            BusyError: ``_MAX_CALLS`` are being played, or the server refuses the stream.
        """
        if len(self._calls) >= _MAX_CALLS:
            raise BusyError(f"sample call limit ({_MAX_CALLS}) reached; wait until one ends")
        begun: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        call = asyncio.create_task(self._run(begun, team), name="sample call")
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                await asyncio.wait((call, begun), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            call.cancel()
        if not begun.done():
            raise BusyError(
                "the server did not accept the sample call; it may be at its stream limit"
            )
        return begun.result()

    async def aclose(self) -> None:
        """End all calls."""
        for call in self._calls:
            call.cancel()
        await asyncio.gather(*self._calls, return_exceptions=True)

    async def _run(self, begun: asyncio.Future[str], team: str) -> None:
        samples, rate_hz = await asyncio.to_thread(load_sample_call)
        options = StreamOptions(
            channels=tuple(ChannelSpec(role=role) for role in SAMPLE_CALL_ROLES),
            name="Sample call",
            metadata={"team": team} if team else {},
            # So that the stream's page can show single frames.
            wants=frozenset(("points", "frames")),
            token=self._token,
            # As it is now: it may have been replaced.
            tls=None if self._certificate is None else tls_of_server(self._certificate),
            reconnect_timeout_s=5.0,
        )
        client = StreamClient(ArraySource(samples, rate_hz), self._url(), options)
        try:
            # Results other than the first message are dropped: the dashboard has them from the bus.
            async with client:
                async for message in client:
                    if isinstance(message, Ready) and not begun.done():
                        begun.set_result(message.stream_id)
        # play() reports a failed start; a failure later concerns nobody but the log, which gets the
        # kind only: the text could hold the address with a token.
        except Exception as error:
            _log.warning("sample_call_ended", error=type(error).__name__)


def _wav() -> bytes:
    import soundfile

    samples, rate_hz = load_sample_call()
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format="WAV", subtype="PCM_16")
    return file.getvalue()
