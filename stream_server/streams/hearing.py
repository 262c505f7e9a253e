"""What the streams of a process hear with: speech together, in turns; voices in a thread.

Hearing together costs each stream half. One that has a block of audio waits for its turn, with the
blocks of the other streams of this process. Silero's network then runs once for all of them; what
each of them hears is the same as alone, to the last bit.

Voices are heard of channels whose speakers are told apart::

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
from ser_engine.timeline.silero import hear_together
from ser_engine.types import FloatArray
from stream_server.streams.session import Session

_log = structlog.get_logger(__name__)

TURN_S = 0.05
"""Time between two turns: the lag that hearing together adds at most while there is time."""
LONGEST_TURN_S = 0.2
"""The same where there is not: with more others each stream costs less, half as much at best."""
_LONGER_FOR_LATE = 4.0
MIN_BLOCKS_A_S = 16
"""Blocks a second from which waiting pays: those of eight streams."""

MAX_WAITING = 16
"""Pieces of a live stream that wait for their voice."""


class SharedHearing:
    """Of all streams of a process. See the module's text."""

    def __init__(self) -> None:
        self._sessions: list[Session] = []
        self._turn: asyncio.Event | None = None
        self._turn_s = TURN_S
        self._second = 0
        self._blocks = self._blocks_before = 0  # of this second, of the one before

    async def turn(self, session: Session) -> None:
        """Wait until the next block of ``session`` was heard; return at once where few are here."""
        loop = asyncio.get_running_loop()
        second = int(loop.time())
        if second != self._second:
            self._blocks_before = self._blocks if second == self._second + 1 else 0
            self._second, self._blocks = second, 0
        self._blocks += 1
        if max(self._blocks_before, self._blocks) < MIN_BLOCKS_A_S:
            return
        if self._turn is None:
            self._turn = asyncio.Event()
            loop.call_later(self._turn_s, self._hear, self._turn, loop.time() + self._turn_s)
        self._sessions.append(session)
        await self._turn.wait()

    def _hear(self, turn: asyncio.Event, due_s: float) -> None:
        late_s = max(asyncio.get_running_loop().time() - due_s, 0.0)
        self._turn_s = min(TURN_S + _LONGER_FOR_LATE * late_s, LONGEST_TURN_S)
        sessions, self._sessions, self._turn = self._sessions, [], None
        try:
            hear_together(part for session in sessions for part in session.listen())
        finally:
            # Whatever failed: a stream that was not heard here hears for itself.
            turn.set()


class Voices:
    """The model that tells voices apart, for all streams of a process.

    Args:
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
