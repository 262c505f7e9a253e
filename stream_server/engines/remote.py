"""An engine in another process: windows out, answers back, over any transport.

::

    score ─┐                      ┌─ Score, one message a turn of the loop ─▶ EngineHost ─▶ engine
    score ─┼─▶ waiting, by number ┤   (an envelope, and a frame of samples for each window)
    score ─┘         ▲            └◀─ Answers, likewise ──────────────────────────┘
                     └── result, error, or "not now": the connection was lost

Every window ends once. A window whose connection is lost before its answer is refused as if the
engine had no room for it, and the stream's next window covers its audio: as far as that reaches
back nothing is lost, and what it does not reach is a gap of the timeline. While the connection is
away windows are refused at once. An answer that comes for a window nobody waits for is dropped.

An engine that comes back with another model is dead to its streams: labels and scores of two models
are not to be mixed in one timeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import structlog

from ser_engine import errors
from ser_engine.config import EngineConfig, TimelineConfig
from ser_engine.core.batcher import BatchingStats
from ser_engine.core.queue import Priority
from ser_engine.errors import (
    EngineDeadError,
    EngineOverloadedError,
    SerEngineError,
    StreamBusyError,
    WindowError,
)
from ser_engine.frames import HOP_SAMPLES
from ser_engine.types import ModelInfo, Window, WindowResult
from stream_server.cluster import Frame, Peer, PeerLostError
from stream_server.engines.window_audio import Layout, SentAudio, as_frame
from stream_server.tracing import traceparent

_log = structlog.get_logger(__name__)

VERSION = 4
"""Of the messages below. Both sides are of one release: they refuse each other otherwise."""
PING_INTERVAL_S = 1.0
SILENCE_S = 10.0
"""Without a message for this long the other side is taken for gone, whatever the network says."""
_RETRY_S = 0.1
_START_TIMEOUT_S = 600.0
# Of what a forward pass may take: the window may wait for one, be in the second, and that one fail.
_STEPS_BEFORE_AN_ANSWER = 3


class _Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The envelope of a message."""


class Hello(_Message, frozen=True, array_like=True, tag=True):
    """A peer wants an engine; its first message.

    Attributes:
        engine: key of the engine it had before; "": the one new streams use.
    """

    version: int
    engine: str


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """One window; its samples are a frame of the message, in this machine's byte order.

    Attributes:
        trace: ``traceparent`` of what traces it; "": it is not traced.
    """

    number: int
    stream_key: str | None
    start_sample: int
    hop_samples: int
    priority: int
    layout: Layout = Layout()
    trace: str = ""


class Score(_Message, frozen=True, array_like=True, tag=True):
    """Windows to score, each with a frame."""

    windows: tuple[Asked, ...]


class Withdraw(_Message, frozen=True, array_like=True, tag=True):
    """Windows nobody waits for any more, by their numbers."""

    numbers: tuple[int, ...]


class Forget(_Message, frozen=True, array_like=True, tag=True):
    """Streams that have ended."""

    stream_keys: tuple[str, ...]


class Ping(_Message, frozen=True, array_like=True, tag=True):
    """The peer is alive."""


class Bye(_Message, frozen=True, array_like=True, tag=True):
    """The peer needs the engine no more."""


class Welcome(_Message, frozen=True, array_like=True, tag=True):
    """The engine a peer gets.

    Attributes:
        engine: names this model and how it is executed, the same after a restart.
        timeline: windows of streams that leave their choice to the engine.
    """

    engine: str
    info: ModelInfo
    runtime: str
    timeline: TimelineConfig


class Refused(_Message, frozen=True, array_like=True, tag=True):
    """There is no such engine, now or for good."""

    reason: str
    is_final: bool


MISSING = "missing"
"""Error of a window whose layout asks for samples that the engine has not kept."""


class Answered(msgspec.Struct, frozen=True, array_like=True):
    """The answer to one window.

    Attributes:
        error: name of the error's class, or :data:`MISSING`; "": a result, whose logits and
            embeddings are the next two frames, float32.
        logits_shape: ``(frames, classes)``.
        embeddings_shape: ``(frames, dim)``; no frames for a live window: no stream uses
            embeddings, and they are ninety-nine hundredths of a result.
    """

    number: int
    error: str = ""
    message: str = ""
    logits_shape: tuple[int, int] = (0, 0)
    embeddings_shape: tuple[int, int] = (0, 0)


class Answers(_Message, frozen=True, array_like=True, tag=True):
    """Answers, in any order."""

    windows: tuple[Answered, ...]


class Pong(_Message, frozen=True, array_like=True, tag=True):
    """The engine is alive.

    Attributes:
        current: key of the engine that new streams use.
    """

    current: str


FromPeer = Hello | Score | Withdraw | Forget | Ping | Bye
FromHost = Welcome | Refused | Answers | Pong
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromHost).decode


class EngineLostError(EngineOverloadedError):
    """The engine is away, or went before it answered; another one could score the window."""


def engine_key(info: ModelInfo, runtime: str) -> str:
    """Return what tells whether two engines give the same answers."""
    return f"{info.name} {info.sha256} {runtime}"


@dataclass(slots=True, eq=False)
class _Waiting:
    """A window without an answer, and the future its caller waits on."""

    window: Window
    priority: Priority
    since_s: float
    answer: asyncio.Future[WindowResult]
    trace: str


class RemoteEngine:
    """An :class:`~stream_server.engines.Engine` elsewhere. Belongs to one event loop.

    Args:
        config: settings of model and batches; ``model.name`` says where the engine is.
        make_peer: makes a connection, not yet connected.
        is_far: whether bytes on the way cost more than to pack samples, see :mod:`.window_audio`.

    Attributes:
        config: the same; once it has started with ``timeline.profile: auto``, with the timeline
            that the engine chose.
        audio_bytes: of samples that were sent.
        stats: windows by what became of them here; batches are counted where they are run.
        superseded: set once new streams are to use another engine of the same address.
    """

    def __init__(
        self,
        config: EngineConfig,
        make_peer: Callable[[], Peer],
        *,
        is_far: bool = False,
    ) -> None:
        self.config = config
        self._sent = SentAudio() if is_far else None
        self.audio_bytes = 0
        self.stats = BatchingStats()
        self.superseded = asyncio.Event()
        self._make_peer = make_peer
        self._answer_timeout_s = _STEPS_BEFORE_AN_ANSWER * config.batching.step_timeout_s
        self._max_pending = config.batching.max_pending
        self._numbers = itertools.count()
        self._waiting: dict[int, _Waiting] = {}
        self._busy: set[str] = set()  # streams with a window among them
        self._welcome: Welcome | None = None
        self._welcomed = asyncio.Event()  # or dead
        self._is_connected = False
        self._dead_because: str | None = "the engine was not started"
        self._task: asyncio.Task[None] | None = None
        # What goes with the next messages.
        self._asked: list[int] = []
        self._whole: set[int] = set()  # of those, the ones with samples that were sent before
        self._withdrawn: list[int] = []
        self._forgotten: list[str] = []
        self._heard_s = 0.0  # the last message
        self._has_more = asyncio.Event()

    @property
    def info(self) -> ModelInfo:
        assert self._welcome is not None, "the model is known once the engine has started"
        return self._welcome.info

    @property
    def runtime_name(self) -> str:
        """How the model is executed. Known once the engine has started."""
        assert self._welcome is not None, "the model is known once the engine has started"
        return self._welcome.runtime

    @property
    def is_alive(self) -> bool:
        return self._dead_because is None and self._is_connected

    @property
    def is_dead(self) -> bool:
        """Whether nothing is scored any more, whoever comes back."""
        return self._dead_because is not None

    @property
    def num_pending(self) -> int:
        return len(self._waiting)

    async def start(self) -> None:
        """Connect, and learn the engine's model. Once only.

        Raises:
            EngineDeadError: there is none within the time, or it is not for this process.
        """
        self._dead_because = None
        self._task = asyncio.create_task(self._keep_connected(), name="remote-engine")
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                await self._welcomed.wait()
        except TimeoutError:
            self._die(
                f"got no engine at {self.config.model.name} within {_START_TIMEOUT_S:g} s,"
                " expected one: `emotion-monitor engine` runs it"
            )
        if self._dead_because is not None:
            raise EngineDeadError(self._dead_because)

    async def score(self, window: Window, priority: Priority = Priority.LIVE) -> WindowResult:
        """Return the result of a window; of a live one without embeddings, ``(0, dim)``.

        Raises:
            WindowError: this window cannot be scored.
            StreamBusyError: its stream has a window without an answer.
            EngineOverloadedError: too many windows wait, or the engine is away.
            EngineDeadError: nothing is scored any more.
        """
        if self._dead_because is not None:
            raise EngineDeadError(self._dead_because)
        if (refusal := self._refusal(window)) is not None:
            self.stats.windows_refused += 1
            raise refusal
        loop = asyncio.get_running_loop()
        waiting = _Waiting(
            window, Priority(priority), loop.time(), loop.create_future(), traceparent()
        )
        number = next(self._numbers)
        self._waiting[number] = waiting
        if window.stream_key is not None:
            self._busy.add(window.stream_key)
        self.stats.windows += 1
        self._asked.append(number)
        self._has_more.set()
        try:
            result = await waiting.answer
        except asyncio.CancelledError:
            self.stats.windows_cancelled += 1
            self._withdrawn.append(number)
            self._has_more.set()
            raise
        except (EngineOverloadedError, StreamBusyError):
            self.stats.windows_refused += 1
            raise
        except Exception:
            self.stats.windows_failed += 1
            raise
        finally:
            self._waiting.pop(number, None)
            self._whole.discard(number)
            if window.stream_key is not None:
                self._busy.discard(window.stream_key)
        self.stats.windows_scored += 1
        return result

    def forget(self, stream_key: str) -> None:
        """Free what the engine keeps of a stream that has ended. Not waited for."""
        if self._sent is not None:
            self._sent.forget(stream_key)
        # One that comes back has kept nothing.
        if self._is_connected:
            self._forgotten.append(stream_key)
            self._has_more.set()

    async def aclose(self) -> None:
        if self._dead_because is None:
            self._die("the engine was closed")
        if self._task is not None:
            # It may be connecting, which nothing else ends.
            self._task.cancel()
            await asyncio.wait([self._task])

    def _refusal(self, window: Window) -> SerEngineError | None:
        if window.stream_key is not None and window.stream_key in self._busy:
            return StreamBusyError(
                "got a window of a stream that has one without an answer, expected the next one"
                " after its result"
            )
        if not self._is_connected:
            return EngineLostError("the engine is away; try again later")
        if len(self._waiting) >= self._max_pending:
            return EngineOverloadedError(
                f"got a window while {len(self._waiting)} wait, expected fewer than"
                f" {self._max_pending} (batching.max_pending); try again later"
            )
        return None

    def _die(self, reason: str) -> None:
        self._dead_because = reason
        self._answer_all(EngineDeadError, reason)
        self._welcomed.set()

    def _answer_all(self, kind: type[SerEngineError], reason: str) -> None:
        for waiting in self._waiting.values():
            if not waiting.answer.done():
                # One exception each: raised in several tasks, it would collect all their traces.
                waiting.answer.set_exception(kind(reason))

    # -- the connection ---------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        while self._dead_because is None:
            peer = self._make_peer()
            try:
                await self._use(peer)
            except PeerLostError:
                if self._is_connected:
                    _log.warning("engine_lost", windows=len(self._waiting))
            except Exception as error:
                # Whatever the other side sends, nobody may be left waiting.
                _log.exception("engine_failed")
                self._die(f"the connection to the engine failed: {error}")
            finally:
                self._is_connected = False
                self._asked, self._withdrawn, self._forgotten = [], [], []
                if self._sent is not None:
                    self._sent.clear()
                reason = "the engine was lost before it answered the window"
                self._answer_all(EngineLostError, reason)
                peer.close()
            if self._dead_because is None:
                await asyncio.sleep(_RETRY_S)

    async def _use(self, peer: Peer) -> None:
        """Exchange messages until the engine is dead.

        Raises:
            PeerLostError: the connection is lost.
        """
        loop = asyncio.get_running_loop()
        await peer.connect()
        welcome = self._welcome
        await peer.send([_encode(Hello(VERSION, "" if welcome is None else welcome.engine))])
        self._heard_s = loop.time()
        sending = asyncio.create_task(self._send_all(peer), name="remote-engine-sender")
        try:
            while self._dead_because is None:
                frames = await peer.receive()
                self._heard_s = loop.time()
                self._take(frames)
            await peer.send([_encode(Bye())])
        except asyncio.CancelledError:
            # Closed: the engine is given back, if that is still possible.
            with contextlib.suppress(PeerLostError):
                await peer.send([_encode(Bye())])
            raise
        finally:
            sending.cancel()
            await asyncio.wait([sending])

    async def _send_all(self, peer: Peer) -> None:
        loop = asyncio.get_running_loop()
        ping_s = loop.time() + PING_INTERVAL_S
        # The reader learns of a lost connection, too, and is the one to tell.
        with contextlib.suppress(PeerLostError):
            while True:
                try:
                    async with asyncio.timeout_at(ping_s):
                        await self._has_more.wait()
                except TimeoutError:
                    ping_s = loop.time() + PING_INTERVAL_S
                    if loop.time() - self._heard_s > SILENCE_S:
                        peer.close()
                        return
                    self._give_up_old(loop.time())
                    await peer.send([_encode(Ping())])
                self._has_more.clear()
                await self._send_waiting(peer)

    async def _send_waiting(self, peer: Peer) -> None:
        asked, self._asked = self._asked, []
        withdrawn, self._withdrawn = self._withdrawn, []
        forgotten, self._forgotten = self._forgotten, []
        windows: list[Asked] = []
        frames: list[Frame] = []
        for number in asked:
            # It may have been withdrawn in the meantime.
            if (waiting := self._waiting.get(number)) is not None:
                one = waiting.window
                layout, frame = (
                    (Layout(), as_frame(one.samples))
                    if self._sent is None
                    else self._sent.pack(number, one, whole=number in self._whole)
                )
                windows.append(
                    Asked(
                        number,
                        one.stream_key,
                        one.start_sample,
                        one.hop_samples,
                        waiting.priority,
                        layout,
                        waiting.trace,
                    )
                )
                frames.append(frame)
                self.audio_bytes += len(frame)
        # First, for a stream may have asked for another window since.
        if withdrawn:
            await peer.send([_encode(Withdraw(tuple(withdrawn)))])
        if windows:
            await peer.send([_encode(Score(tuple(windows))), *frames])
        if forgotten:
            await peer.send([_encode(Forget(tuple(forgotten)))])

    def _give_up_old(self, now_s: float) -> None:
        timeout_s = self._answer_timeout_s
        for number, waiting in self._waiting.items():
            if now_s - waiting.since_s > timeout_s and not waiting.answer.done():
                waiting.answer.set_exception(WindowError(f"no answer within {timeout_s:g} s"))
                self._withdrawn.append(number)

    def _take(self, frames: list[bytes]) -> None:
        """Act on a message of the host."""
        match _decode(frames[0]):
            case Welcome() as welcome:
                if self._welcome is not None and self._welcome.engine != welcome.engine:
                    self.superseded.set()
                    self._die(
                        f"the engine came back with {welcome.engine}, this stream began with"
                        f" {self._welcome.engine}"
                    )
                    return
                self._welcome = welcome
                if self.config.timeline.profile == "auto":
                    self.config = replace(self.config, timeline=welcome.timeline)
                self._is_connected = True
                self._welcomed.set()
            case Refused(reason=reason, is_final=True):
                self._die(reason)
            case Refused(reason=reason):
                # Asked again with the next connection.
                raise PeerLostError(reason)
            case Pong(current=current):
                if self._welcome is not None and current != self._welcome.engine:
                    self.superseded.set()
            case Answers(windows=windows):
                arrays = iter(frames[1:])
                for one in windows:
                    self._answer(one, arrays)

    def _answer(self, answered: Answered, arrays: Iterator[bytes]) -> None:
        waiting = self._waiting.get(answered.number)
        if answered.error == MISSING and answered.number not in self._whole:
            # Another replica, or one that had too much to keep: it is sent the whole window.
            if waiting is not None:
                self._whole.add(answered.number)
                self._asked.append(answered.number)
                self._has_more.set()
            return
        outcome: WindowResult | SerEngineError
        if answered.error:
            kind = getattr(errors, answered.error, WindowError)
            outcome = kind(answered.message)
        else:
            logits, embeddings = (
                np.frombuffer(next(arrays), np.float32).reshape(rows, width)
                for rows, width in (answered.logits_shape, answered.embeddings_shape)
            )
            hop_samples = HOP_SAMPLES if waiting is None else waiting.window.hop_samples
            outcome = WindowResult(logits, embeddings, hop_samples)
        if waiting is None or waiting.answer.done():
            return  # Nobody waits for it any more.
        if isinstance(outcome, EngineDeadError):
            # The host's engine may be made again; that it is dead for good it says otherwise.
            waiting.answer.set_exception(EngineLostError(answered.message))
        elif isinstance(outcome, SerEngineError):
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome)
