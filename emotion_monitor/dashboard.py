"""The dashboard's view of the server: where the packages are put together."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from dashboard.app import Dashboard
from dashboard.backend import (
    Backend,
    EngineView,
    KnownModel,
    ModelsView,
    UpgradeView,
)
from dashboard.live.tiles import StreamStatus
from emotion_monitor.pool_analyser import PoolAnalyser
from emotion_monitor.sample_call import SampleCalls, sample_call_wav
from emotion_monitor.settings import Settings
from ser_engine.models.find import inventory
from stream_server.engines.status import EngineStatus, PoolStatus
from stream_server.feeds.source import FeedSource
from stream_server.server import Server
from stream_server.wire.messages import LabelName


def serve_dashboard(settings: Settings, server: Server, source: FeedSource) -> None:
    """Serve the dashboard with a server that is being started."""
    calls = SampleCalls(lambda: server.ingest_url, settings.stream_server.access)
    backend = make_backend(settings, server, source, calls)
    dashboard = Dashboard(backend, settings.dashboard)
    dashboard.add_to(server.app)
    server.app.on_shutdown.append(lambda _: calls.aclose())


def make_backend(
    settings: Settings, server: Server, source: FeedSource, calls: SampleCalls
) -> Backend:
    """Return what the dashboard needs of a server."""
    model_config = settings.ser_engine.model

    async def known_models() -> tuple[KnownModel, ...]:
        found = await asyncio.to_thread(inventory, model_config)
        return tuple(
            KnownModel(
                name=model.name,
                form=model.form.value,
                size_bytes=model.size_bytes,
                licence=model.licence,
                sha256=model.sha256,
            )
            for model in found
        )

    def config() -> dict[str, Any]:
        return {name: asdict(getattr(settings, name)) for name in type(settings).model_fields}

    def stream_status(stream_id: str) -> StreamStatus | None:
        heartbeat = server.heartbeat(stream_id)
        if heartbeat is None:
            return None
        return StreamStatus(
            received_s=heartbeat.received_s,
            published_s=heartbeat.published_s,
            lag_ms=heartbeat.lag_ms,
            real_time_factor=heartbeat.real_time_factor,
            effective_step_ms=heartbeat.effective_step_ms,
        )

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
        analyse=PoolAnalyser(server.engines, settings.dashboard.analyse),
        presets={
            name: asdict(preset) for name, preset in settings.ser_engine.offline.presets.items()
        },
        sample_audio=sample_call_wav,
        play_sample_call=calls.play,
    )


def _models(status: PoolStatus) -> ModelsView:
    upgrade = status.upgrade
    return ModelsView(
        is_ready=status.is_ready,
        engines=tuple(map(_engine, status.engines)),
        upgrade=UpgradeView(
            state=upgrade.state.value,
            model=upgrade.model,
            licence=upgrade.licence,
            hub=upgrade.hub,
            done_bytes=upgrade.done_bytes,
            total_bytes=upgrade.total_bytes,
            reason=upgrade.reason,
        ),
    )


def _engine(status: EngineStatus) -> EngineView:
    info = status.info
    return EngineView(
        name=info.name,
        licence=info.licence,
        notice=info.notice,
        runtime=status.runtime,
        labels=tuple(
            LabelName(name=label.name, name_zh=label.name_zh) for label in info.labels.labels
        ),
        takes_new_streams=status.takes_new_streams,
        streams=status.num_streams,
        pending=status.num_pending,
        is_alive=status.is_alive,
    )
