"""Lends the engines of this process to other ones; :mod:`.remote` is the other side.

Windows of all peers meet in one engine and share its batches. A peer holds a lease of the engine it
was given until it says goodbye or is silent, so an engine stays open as long as a stream anywhere
uses it. What a peer sends that is no message is logged and ignored.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
import structlog

from ser_engine.core.queue import Priority
from ser_engine.errors import EngineDeadError, SerEngineError, WindowError
from ser_engine.types import FloatArray, Window, WindowResult
from stream_server.cluster import Frame, Host
from stream_server.engines import Engine, EngineLease, EngineSource
from stream_server.engines.remote import (
    MISSING,
    PING_INTERVAL_S,
    SILENCE_S,
    VERSION,
    Answered,
    Answers,
    Asked,
    Bye,
    Forget,
    FromHost,
    FromPeer,
    Hello,
    Ping,
    Pong,
    Refused,
    Score,
    Welcome,
    Withdraw,
    engine_key,
)
from stream_server.engines.window_audio import KeptAudio, as_frame
from stream_server.tracing import add_span

_log = structlog.get_logger(__name__)

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(FromPeer).decode


@dataclass(slots=True, eq=False)
class _Guest:
    """A peer and the engine it was given."""

    lease: EngineLease
    heard_s: float
    audio: KeptAudio = field(default_factory=KeptAudio)
    running: dict[int, asyncio.Task[None]] = field(default_factory=dict)
    answers: list[tuple[Answered, list[Frame]]] = field(default_factory=list)


class EngineHost:
    """Answers peers until it is cancelled.

    Args:
        engines: lends the engine of this process; started.
        host: where peers connect; whoever made it closes it.
    """

    def __init__(self, engines: EngineSource, host: Host) -> None:
        self._engines = engines
        self._host = host
        self._guests: dict[bytes, _Guest] = {}
        self._has_answers = asyncio.Event()

    async def run(self) -> None:
        """Answer peers until cancelled; then windows that run are withdrawn."""
        tasks = [
            asyncio.create_task(self._answer_all(), name="engine-host-answers"),
            asyncio.create_task(self._forget_silent(), name="engine-host-silence"),
        ]
        try:
            while True:
                peer, frames = await self._host.receive()
                try:
                    await self._take(peer, frames)
                except (msgspec.MsgspecError, ValueError, IndexError) as error:
                    _log.warning("engine_message_ignored", reason=str(error))
        finally:
            for guest in list(self._guests):
                self._dismiss(guest)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    async def _take(self, peer: bytes, frames: list[bytes]) -> None:
        message = _decode(frames[0])
        if isinstance(message, Hello):
            await self._welcome(peer, message)
            return
        guest = self._guests.get(peer)
        if guest is None:
            # Of a former run, or silent for too long: it connects anew.
            await self._send(peer, Refused("there was no hello, or long ago", is_final=False))
            return
        guest.heard_s = asyncio.get_running_loop().time()
        engine = guest.lease.engine
        match message:
            case Score(windows=windows):
                for asked, frame in zip(windows, frames[1:], strict=True):
                    samples = guest.audio.unpack(
                        asked.number, asked.stream_key, asked.layout, frame
                    )
                    guest.running[asked.number] = asyncio.create_task(
                        self._score(guest, asked, samples), name="window"
                    )
            case Withdraw(numbers=numbers):
                for number in numbers:
                    if (task := guest.running.get(number)) is not None:
                        task.cancel()
            case Forget(stream_keys=keys):
                for key in keys:
                    engine.forget(key)
                    guest.audio.forget(key)
            case Ping():
                current = self._current()
                await self._send(peer, Pong(current or _key(guest)))
            case Bye():
                self._dismiss(peer)

    async def _welcome(self, peer: bytes, hello: Hello) -> None:
        if hello.version != VERSION:
            reason = f"got version {hello.version} of the engine's messages, expected {VERSION}"
            await self._send(peer, Refused(reason, is_final=True))
            return
        try:
            lease = self._engines.acquire()
        except EngineDeadError as error:
            await self._send(peer, Refused(str(error), is_final=False))
            return
        guest = _Guest(lease, asyncio.get_running_loop().time())
        self._dismiss(peer)
        self._guests[peer] = guest
        engine = lease.engine
        timeline = engine.config.timeline
        await self._send(peer, Welcome(_key(guest), engine.info, engine.runtime_name, timeline))

    def _current(self) -> str | None:
        """Return the key of the engine that new streams use; None: none is alive."""
        try:
            with self._engines.acquire() as engine:
                return engine_key(engine.info, engine.runtime_name)
        except EngineDeadError:
            return None

    async def _score(self, guest: _Guest, asked: Asked, samples: FloatArray | None) -> None:
        try:
            answer = await scored(guest.lease.engine, asked, samples)
            # Looked up now: the list is another one each time answers were sent.
            guest.answers.append(answer)
        finally:
            del guest.running[asked.number]
        self._has_answers.set()

    async def _answer_all(self) -> None:
        """Send what was answered since the last turn of the loop, a message a peer."""
        while True:
            await self._has_answers.wait()
            self._has_answers.clear()
            for peer, guest in list(self._guests.items()):
                if guest.answers:
                    answers, guest.answers = guest.answers, []
                    envelope = Answers(tuple(answer for answer, _ in answers))
                    arrays = [frame for _, frames in answers for frame in frames]
                    await self._send(peer, envelope, arrays)

    async def _forget_silent(self) -> None:
        while True:
            await asyncio.sleep(PING_INTERVAL_S)
            now_s = asyncio.get_running_loop().time()
            for peer, guest in list(self._guests.items()):
                if now_s - guest.heard_s > SILENCE_S:
                    self._dismiss(peer)

    def _dismiss(self, peer: bytes) -> None:
        guest = self._guests.pop(peer, None)
        if guest is not None:
            for task in guest.running.values():
                task.cancel()
            guest.lease.release()

    async def _send(self, peer: bytes, message: FromHost, arrays: Sequence[Frame] = ()) -> None:
        await self._host.send(peer, [_encode(message), *arrays])


def _key(guest: _Guest) -> str:
    engine = guest.lease.engine
    return engine_key(engine.info, engine.runtime_name)


async def scored(
    engine: Engine, asked: Asked, samples: FloatArray | None
) -> tuple[Answered, list[Frame]]:
    """Return the answer to one window, and its arrays; ``samples`` is None: not all are here."""
    if samples is None:
        return Answered(asked.number, MISSING), []
    window = Window(samples, asked.start_sample, asked.stream_key, asked.hop_samples)
    priority = Priority(asked.priority)
    began_ns = time.time_ns()
    try:
        return _answered(asked.number, await engine.score(window, priority), priority)
    except SerEngineError as error:
        return Answered(asked.number, type(error).__name__, str(error)), []
    except Exception as error:
        _log.exception("window_failed")
        return Answered(asked.number, WindowError.__name__, f"the engine failed: {error}"), []
    finally:
        add_span(asked.trace, "score", began_ns, {"runtime": engine.runtime_name})


def _answered(
    number: int, result: WindowResult, priority: Priority
) -> tuple[Answered, list[Frame]]:
    embeddings = result.embeddings[: 0 if priority is Priority.LIVE else None]
    answer = Answered(
        number,
        logits_shape=result.logits.shape,
        embeddings_shape=embeddings.shape,
    )
    return answer, [as_frame(result.logits), as_frame(embeddings)]
