"""A dashboard over a bus, served on loopback; only what analyses files is a fake."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiohttp import ClientWebSocketResponse, web
from aiohttp.test_utils import TestClient, TestServer

from dashboard.app import Dashboard
from dashboard.backend import (
    Analyse,
    Analysed,
    AnalysisError,
    AnalysisRequest,
    Backend,
    BusyError,
    EngineView,
    KnownModel,
    ModelsView,
    RightsBackend,
    UpgradeView,
)
from dashboard.config import DashboardConfig
from dashboard.live.tiles import StreamStatus
from dashboard.results import summary_of, write_result
from ser_engine.files import (
    AnalysisOptions,
    ChannelAnalysis,
    FileAnalysis,
    FrameResult,
    Granularity,
    StreamResult,
    UtteranceResult,
)
from ser_engine.files.results import SpeakerResult
from ser_engine.labels import LabelSet
from ser_engine.schema import LabelName, Warning
from ser_engine.speakers import Turn
from ser_engine.types import ModelInfo
from stream_server.access import Access, AccessConfig, ListenConfig
from stream_server.bus import Bus
from stream_server.config import RecordingConfig, StoreConfig
from stream_server.feeds.source import FeedSource, History
from stream_server.http import make_app
from stream_server.metrics import Metrics
from stream_server.recording import Recordings
from stream_server.rights import Halt, Rights, RightsConfig
from stream_server.store import Store
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.messages import Told
from stream_server.wire.results import Result
from tests.support.results import LABELS

__all__ = ["DashboardLab", "FakeAnalyse", "Page", "make_analysis", "serve_dashboard"]

PRESETS = {"research": {"granularity": "frame", "embeddings": True, "frame_hop_ms": 10}}

Client = TestClient[web.Request, web.Application]


def make_analysis(
    granularity: Granularity = "utterance", num_frames: int = 4, name: str = "fake.wav"
) -> FileAnalysis:
    """Return what a file with two channels gave."""
    logits = np.zeros((num_frames, len(LABELS)), dtype=np.float32)
    logits[:, 2] = 3.0
    posteriors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    embeddings = np.arange(num_frames * 3, dtype=np.float32).reshape(num_frames, 3)
    whole = UtteranceResult(
        labels=LABELS,
        num_samples=num_frames * 320,
        logits=logits[0],
        posteriors=posteriors[0].astype(np.float64),
        embedding=embeddings.mean(axis=0),
        level_dbfs=-20.0,
    )
    result: UtteranceResult | FrameResult | StreamResult = whole
    if granularity == "frame":
        result = FrameResult(
            labels=LABELS,
            num_samples=num_frames * 320,
            hop_samples=320,
            logits=logits,
            posteriors=posteriors.astype(np.float64),
            speech=np.ones(num_frames, dtype=np.bool_),
            abstain_below=0.0,
            embeddings=embeddings,
        )
    warning = Warning(code="clipping", message="loud", at_s=1.0)
    speaker = SpeakerResult(
        name="speaker 1",
        turns=(Turn(start_sample=0, end_sample=num_frames * 320, speaker=0),),
        speech_s=num_frames * 0.02,
        label=whole.label,
        best=whole.best,
        confidence=whole.confidence,
        posteriors=whole.posteriors,
    )
    channel = ChannelAnalysis(
        result=result, overall=whole, warnings=(warning,), speakers=(speaker,)
    )
    labels = LabelSet.from_tokens(LABELS)
    return FileAnalysis(
        name=name,
        model=ModelInfo("fake", "nowhere", "none", "", labels, 3, notice="A fake model."),
        options=AnalysisOptions(granularity, embeddings=granularity == "frame"),
        duration_s=num_frames * 0.02,
        rate_hz=16_000,
        channels=(channel, channel),
    )


class LabRights:
    """The rights of a server without streams of its own: nothing is live here."""

    def __init__(self, store: Store | None) -> None:
        self._store = store
        self.config = RightsConfig()
        self.halt = Halt()
        self.told: list[tuple[str, Told]] = []
        self.hashed = Rights().hashed

    async def set_halt(self, halt: Halt) -> None:
        self.halt = halt

    def tell(self, stream_id: str, told: Told) -> bool:
        self.told.append((stream_id, told))
        return stream_id == "s1"

    async def object(self, stream_id: str) -> bool:
        return False

    async def erase_stream(self, stream_id: str) -> bool:
        return self._store is not None and await self._store.erase_stream(stream_id)

    async def purge(self) -> bool:
        return self._store is None or await self._store.purge()

    def backend(self) -> RightsBackend:
        return RightsBackend(
            config=self.config,
            halt=lambda: self.halt,
            set_halt=self.set_halt,
            tell=self.tell,
            object=self.object,
            erase_stream=self.erase_stream,
            purge=self.purge,
            hashed=self.hashed,
        )


@dataclass
class FakeAnalyse:
    """Waits for ``gate``, then answers.

    Attributes:
        seen: the content of each file, in order.
        paths: where they were.
        running: how many it works on now.
        most: how many it ever worked on.
        cancelled: how many were given up.
    """

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    seen: list[bytes] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    running: int = 0
    most: int = 0
    cancelled: int = 0

    def key(self, request: AnalysisRequest) -> str:
        return f"{request.content_sha256} {sorted(request.options.items())}"

    async def __call__(
        self, request: AnalysisRequest, progress: Callable[[float], None]
    ) -> Analysed:
        self.seen.append(request.path.read_bytes())
        self.paths.append(request.path)
        self.running += 1
        self.most = max(self.most, self.running)
        progress(0.5)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        if self.seen[-1].startswith(b"bad"):
            raise AnalysisError("got text, expected audio")
        if self.seen[-1].startswith(b"bug"):
            raise ZeroDivisionError
        analysis = make_analysis(request.options["granularity"], name=request.name)
        write_result(request.folder, analysis, ["did it"], lambda: None)
        return Analysed(
            duration_s=analysis.duration_s,
            summary=summary_of(analysis),
            cache_key=self.key(request),
        )


@dataclass(frozen=True, slots=True)
class Page:
    """What an open page gets."""

    socket: ClientWebSocketResponse

    async def read(self) -> dict[str, Any]:
        """Return the next message that tells something."""
        while True:
            message: dict[str, Any] = await self.socket.receive_json()
            if message["type"] != "alive":
                return message

    async def look(self, visible: bool) -> None:
        await self.socket.send_json({"visible": visible})

    async def close_code(self) -> int | None:
        while not self.socket.closed:
            await self.socket.receive()
        return self.socket.close_code


@dataclass(frozen=True, slots=True)
class DashboardLab:
    """What a test publishes to and asks."""

    bus: Bus
    dashboard: Dashboard
    store: Store | None
    recordings: Recordings | None
    analyse: FakeAnalyse
    client: Client

    def publish(self, *results: Result) -> None:
        for result in results:
            self.bus.publish(result)

    async def get(self, path: str, status: int = 200) -> Any:
        return await self.ask("GET", path, status)

    async def ask(self, method: str, path: str, status: int = 200, **options: Any) -> Any:
        """Return the JSON of an answer with the status that is expected."""
        answer = await self.client.request(method, f"/api/v1{path}", **options)
        body = await answer.read()
        assert answer.status == status, body
        return msgspec.json.decode(body) if body else None

    async def open(self, query: str = "") -> Page:
        return Page(await self.client.ws_connect(f"/api/v1/live{query}"))


@asynccontextmanager
async def serve_dashboard(
    *,
    config: DashboardConfig | None = None,
    history: History | None = None,
    database: Path | None = None,
    recordings: Path | None = None,
    root: Path | None = None,
    is_ready: bool = True,
    settings: dict[str, Any] | None = None,
    listen: ListenConfig | None = None,
    access: AccessConfig | None = None,
    mailbox_size: int = 1024,
    analyser: Analyse | None = None,
    unrecorded_s: float | None = None,
) -> AsyncIterator[DashboardLab]:
    """Serve a dashboard on 127.0.0.1.

    Args:
        config: its settings.
        history: stands for what is stored, in feeds only.
        database: where a real store is made.
        recordings: where a real recorder writes.
        root: holds the pages' files.
        is_ready: whether there is an engine.
        settings: what ``/config`` shows.
        listen: where the server says it listens.
        access: who may connect.
        mailbox_size: of a page that shows one stream.
        analyser: analyses files, in place of the fake.
        unrecorded_s: what the recording of stream s1 lacks.
    """
    bus, metrics, analyse = Bus(), Metrics(), FakeAnalyse()
    live = LiveStreams(bus)
    async with AsyncExitStack() as stack:
        store: Store | None = None
        tasks = [asyncio.create_task(live.run())]
        if database is not None:
            recorder = Recordings(RecordingConfig(dir=str(recordings))) if recordings else None
            store = await Store.open(
                StoreConfig(url=f"sqlite:///{database}", write_interval_ms=10),
                on_deleted=recorder.delete if recorder is not None else None,
            )
            stack.push_async_callback(store.close)
            if recorder is not None:
                stack.push_async_callback(recorder.close)
            tasks.append(asyncio.create_task(store.run(bus.subscribe(name="s", capacity=10_000))))
        else:
            recorder = None
        kept = History(store) if store is not None else history
        source = FeedSource(bus, live, kept, mailbox_size=mailbox_size)
        engine = EngineView(
            name="fake",
            licence="none",
            notice="A fake model.",
            runtime="fake cpu",
            labels=tuple(LabelName(name=name, name_zh=name) for name in LABELS),
            takes_new_streams=True,
            streams=0,
            pending=0,
            is_alive=True,
        )
        upgrade = UpgradeView(
            state="idle", model="", licence="", hub="", done_bytes=0, total_bytes=None, reason=""
        )
        engines = (engine,) if is_ready else ()
        calls: list[str] = []

        async def known_models() -> tuple[KnownModel, ...]:
            return (
                KnownModel(name="fake", form="built in", size_bytes=1, licence="none", sha256=""),
            )

        async def sample_audio() -> bytes:
            return b"RIFF sample"

        async def play(team: str) -> str:
            if calls:
                raise BusyError("got a sample call beyond 1")
            calls.append("s1")
            return "s1"

        def status(stream_id: str) -> StreamStatus | None:
            if stream_id != "s1":
                return None
            return StreamStatus(
                received_s=2.0,
                published_s=1.5,
                lag_ms=500.0,
                real_time_factor=0.1,
                effective_step_ms=500.0,
                unrecorded_s=unrecorded_s,
            )

        backend = Backend(
            version="1.2.3",
            bus=bus,
            live=live,
            feed=source,
            store=store,
            recordings=recorder,
            analyse_roles=("customer",),
            ingest_port=lambda: 8765,
            models=lambda: ModelsView(is_ready=is_ready, engines=engines, upgrade=upgrade),
            known_models=known_models,
            config=lambda: settings or {},
            stream_status=status,
            analyse=analyser or analyse,
            presets=PRESETS,
            sample_audio=sample_audio,
            play_sample_call=play,
            rights=LabRights(store).backend(),
        )
        app = make_app(
            access=Access(access or AccessConfig(), listen or ListenConfig()),
            metrics=metrics,
            readiness=list,
        )
        options = {} if root is None else {"root": root}
        dashboard = Dashboard(backend, config or DashboardConfig(), **options)
        if history is not None and store is None:
            dashboard.live.keeps = True
        dashboard.add_to(app)
        client = await stack.enter_async_context(TestClient(TestServer(app)))
        try:
            yield DashboardLab(bus, dashboard, store, recorder, analyse, client)
        finally:
            bus.close()
            await asyncio.gather(*tasks)
