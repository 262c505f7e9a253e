"""Hears the voices of channels whose speakers are told apart, in a thread of its own.

::

    session ─▶ pieces ─▶ VoiceLane, one a stream ─▶ Voices, one thread a process ─▶ session

A piece takes 85 ms of one core. A live stream lets :data:`MAX_WAITING` of its pieces wait, 12 s of
speech; beyond that the oldest is given up, and what it speaks for is of nobody who is known. A
recording waits instead.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import structlog

from ser_engine.config import EngineConfig
from ser_engine.errors import SerEngineError
from ser_engine.speakers.campplus import SpeakerEmbedder, embedder_for, weights_of
from ser_engine.speakers.pieces import VoicePiece
from ser_engine.types import FloatArray
from stream_server.streams.session import Session

_log = structlog.get_logger(__name__)

MAX_WAITING = 16


class Voices:
    """The model that tells voices apart, for all streams of a process.

    Args:
        config: names the model.
        embedder: the model itself; None: the one that the settings name, read at first use.
    """

    def __init__(self, config: EngineConfig, embedder: SpeakerEmbedder | None = None) -> None:
        self._config = config
        self._embedder = embedder
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voices")

    def check(self) -> None:
        """Check that the model is on this machine; no hub is asked while a stream waits.

        Raises:
            CheckpointError: it is not.
        """
        if self._embedder is None:
            model = self._config.model
            weights_of(
                self._config.speakers.model, Path(model.models_dir).expanduser(), offline=True
            )

    async def embed(self, piece: VoicePiece) -> FloatArray | None:
        """Return the vector of a piece's voice; None: it could not be had."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, self._embed, piece)
        except SerEngineError as error:
            _log.error("voice_failed", reason=str(error))
        except Exception:
            _log.exception("voice_failed")
        return None

    def close(self) -> None:
        """End the thread, when it has done what it does."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _embed(self, piece: VoicePiece) -> FloatArray:
        if self._embedder is None:
            self._embedder = embedder_for(self._config)
        (vector,) = self._embedder.embed([piece.samples])
        return vector


class VoiceLane:
    """Hands the pieces of one stream to :class:`Voices`, and the answers to its session.

    Args:
        session: takes the answers.
        voices: of the process.
        on_answer: called after each answer: there may be results.
    """

    def __init__(self, session: Session, voices: Voices, on_answer: Callable[[], None]) -> None:
        self._session = session
        self._voices = voices
        self._on_answer = on_answer
        self._waiting: deque[tuple[int, VoicePiece]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    async def put(self, channel: int, piece: VoicePiece, *, patient: bool) -> None:
        """Take the next piece.

        Args:
            channel: its index.
            piece: to be embedded.
            patient: return when it is answered, and give none up.
        """
        if not patient and len(self._waiting) >= MAX_WAITING:
            self._session.answer_voice(*self._waiting.popleft(), None)
        self._waiting.append((channel, piece))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="voices")
        if patient:
            await self.drain()

    async def drain(self) -> None:
        """Return when everything was answered."""
        while self._task is not None:
            self._moved.clear()
            await self._moved.wait()

    async def aclose(self) -> None:
        """Drop what waits; the session gives it up when it is closed."""
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            while self._waiting:
                channel, piece = self._waiting.popleft()
                vector = await self._voices.embed(piece)
                self._session.answer_voice(channel, piece, vector)
                self._on_answer()
        finally:
            self._task = None
            self._moved.set()
