"""One stream, and the lines of RTP that fill it."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ser_engine.schema import CloseReason
from stream_server.access import SIGNED
from stream_server.config import ServerConfig
from stream_server.platforms.media_stream import DTMF_MARK
from stream_server.rtp import SAMPLE_BYTES, Payloads
from stream_server.rtp.packets import RtpTrack, Timed
from stream_server.streams.connection import failure, reason_of
from stream_server.streams.registry import RunningStream, StreamRegistry
from stream_server.streams.runner import TrackReport
from stream_server.streams.socket import MessageRate
from stream_server.tracks import TrackAligner
from stream_server.tracks.coded import CodedTracks, track_format
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, CodedAudio
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Mark, Pause, Resume
from stream_server.wire.start import StreamSpec

MAX_QUEUED = 1024
"""Packets that wait for the stream, some ten seconds' worth; what comes then is lost."""


def format_of(form: tuple[str, int], num_channels: int) -> AudioFormat:
    """Return the format of a stream whose lines have a form; see :attr:`Payloads.form`."""
    coded, rate_hz = form
    if coded:
        return track_format(coded, num_channels)
    return AudioFormat("pcm_s16le", rate_hz, num_channels)


@dataclass(slots=True, eq=False)
class RtpLine:
    """One side of a call."""

    channel: int
    track: RtpTrack
    payloads: Payloads


class Call(Protocol):
    """Whose stream it is."""

    def leave(self, error: ProtocolError | None) -> None:
        """Tell the other side that this side ends the call; the stream ends after it.

        Args:
            error: why, where the stream cannot go on; None: the server ends it.
        """
        ...

    def over(self, stream: RunningStream, unread: int) -> None:
        """Free what the call has: its stream is over.

        Args:
            unread: packets that no line could read, or that came too fast.
        """
        ...


class RtpStream:
    """Puts lines into one stream.

    Args:
        spec: of the stream; its format is :func:`format_of` its lines.
        idle_timeout_s: without a packet, after which it ends.
        idle_is_end: whether that is how calls end, and no fault.

    Attributes:
        lines: that fill it, changed by the call.
        unread: packets that no line could read, or that came too fast.
    """

    def __init__(
        self,
        *,
        spec: StreamSpec,
        form: tuple[str, int],
        call: Call,
        route: str,
        idle_timeout_s: float,
        idle_is_end: bool = False,
        registry: StreamRegistry,
        config: ServerConfig,
    ) -> None:
        self.lines: list[RtpLine] = []
        self._spec = spec
        self.form = form
        self._call = call
        self._route = route
        self._idle_timeout_s = idle_timeout_s
        self._idle_is_end = idle_is_end
        self._registry = registry
        self._config = config
        self._limits = config.limits
        self._wait_ms = config.telephony.max_jitter_ms
        put_in_order = CodedTracks if form[0] else TrackAligner
        self._aligner = put_in_order(spec.format, max_jitter_ms=self._wait_ms)
        self._stream: RunningStream | None = None
        self._report: TrackReport | None = None
        self._queue: deque[tuple[RtpLine, Timed]] = deque()
        self._came = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        now_s = self._loop.time()
        self._rate = MessageRate(self._limits.max_messages_per_s, now_s, what="packets")
        self._start_s = self._heard_s = now_s
        self._paused_s: float | None = None
        self._worker: asyncio.Task[None] | None = None
        self.is_over = False
        # The worker and changes of the call take turns: a stream takes requests one at a time.
        self.turn = asyncio.Lock()
        self.unread = 0

    @property
    def is_paused(self) -> bool:
        """Whether what comes is thrown away."""
        return self._paused_s is not None

    def begin(self) -> None:
        """Begin the stream.

        Raises:
            ProtocolError: there is no room for it, or its audio may not be analysed.
        """
        self._stream = self._registry.open(self._spec, SIGNED, self, route=self._route)
        self._report = TrackReport(self._stream.runner)
        self._heard_s = self._loop.time()
        self._worker = self._loop.create_task(self._run(), name=f"{self._route} stream")

    # -- audio ------------------------------------------------------------------------------------

    def put(self, line: RtpLine, data: bytes) -> None:
        """Take a datagram of a line."""
        now_s = self._loop.time()
        # People pause to keep something private: what comes all the same is not looked at.
        if self.is_over or self._paused_s is not None:
            return
        with contextlib.suppress(ProtocolError):
            self._rate.take(1, now_s)
            if len(self._queue) < MAX_QUEUED:
                now_tick = round((now_s - self._start_s) * self.form[1])
                timed = line.track.put(data, now_tick)
                self._queue.extend((line, each) for each in timed)
                # By half of the wait, so that what is said after it is still in time.
                quiet_tick = now_tick - self._wait_ms * self.form[1] // 2000
                for other in self.lines:
                    if other is not line:
                        quiet = other.track.quiet_until(quiet_tick)
                        self._queue.extend((other, each) for each in quiet)
                self._came.set()
                if timed:
                    self._heard_s = now_s
                return
        # Its number is missing now, so its time is lost and is told so.
        self.unread += 1

    def forget(self, line: RtpLine) -> None:
        self.lines.remove(line)
        self.unread += line.track.malformed

    async def pause(self) -> None:
        """Throw away what comes from now on; the caller has the turn."""
        if self._paused_s is None:
            await self.drain()
            await self._release()
            self._paused_s = self._loop.time()
            await self._hand_over(Pause())

    async def resume(self) -> None:
        """End a pause; the caller has the turn."""
        if self._paused_s is None:
            return
        self._start_s += self._loop.time() - self._paused_s
        self._paused_s, self._heard_s = None, self._loop.time()
        for line in self.lines:
            line.track.restart()
        await self._hand_over(Resume())

    async def drain(self) -> None:
        """Hand over what is queued; the caller has the turn."""
        while self._queue and not self.is_over:
            line, timed = self._queue.popleft()
            for piece in self._placed(line, timed):
                await self._hand_over(piece)
            if timed.key:
                await self._hand_over(Mark(name=DTMF_MARK, key=timed.key))
        self._came.clear()

    async def _run(self) -> None:
        """Hand over what comes until the stream ends."""
        beat_s = self._loop.time()
        every_s = min(self._config.streams.heartbeat_ms / 1000, self._idle_timeout_s)
        try:
            while not self.is_over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(beat_s):
                        await self._came.wait()
                async with self.turn:
                    await self.drain()
                    if self._loop.time() >= beat_s and not self.is_over:
                        await self._beat()
                        beat_s = self._loop.time() + every_s
        except Exception:
            assert self._stream is not None
            await self._fail(failure(self._stream.stream_id))

    def _placed(self, line: RtpLine, timed: Timed) -> Sequence[AudioData | CodedAudio]:
        """Put a packet in its place; return what is complete with it."""
        tracks, channel, silence = self._aligner, line.channel, timed.silence
        at_tick, number, payload = timed.at_tick, timed.number, timed.payload
        if isinstance(tracks, TrackAligner):
            samples = bytes(silence * SAMPLE_BYTES) + line.payloads.decode(payload)
            return tracks.put(channel, samples, at_tick=at_tick, number=number)
        if not payload:
            return tracks.rest(channel, silence, at_tick=at_tick, number=number)
        return tracks.put(channel, payload, at_tick=at_tick, number=number, silence=silence)

    async def _release(self) -> None:
        for piece in self._aligner.flush():
            await self._hand_over(piece)

    async def _beat(self) -> None:
        stream, report = self._stream, self._report
        assert stream is not None and report is not None
        stream.runner.heartbeat()  # Not sent to anyone, but it updates the lag in /metrics.
        report.check(self._aligner.stats)
        now_s = self._loop.time()
        if self._paused_s is None and now_s - self._heard_s >= self._idle_timeout_s:
            if self._idle_is_end:
                await self._release()
                await self._finish("stopped")
                return
            text = f"got no RTP for {self._idle_timeout_s:g} s"
            await self._fail(ProtocolError(ErrorCode.IDLE, text))
        elif self._paused_s is not None and now_s - self._paused_s >= self._limits.max_stream_s:
            text = f"the call was paused for {self._limits.max_stream_s:g} s"
            await self._fail(ProtocolError(ErrorCode.IDLE, text))

    async def _hand_over(self, each: AudioData | CodedAudio | Mark | Pause | Resume) -> None:
        if self.is_over:
            return
        assert self._stream is not None
        try:
            await self._stream.runner.handle(each)
        except ProtocolError as error:
            if error.ends_stream:
                await self._fail(error)

    # -- ending -----------------------------------------------------------------------------------

    async def end(self, error: ProtocolError) -> None:
        """End the call for a reason of this side; return when its stream is free."""
        if not self.is_over:
            self._call.leave(None)
        await self.close(reason_of(error))

    async def close(self, reason: CloseReason) -> None:
        """End the stream, because the other side ended the call."""
        async with self.turn:
            if self.is_over:
                return
            try:
                # An engine that hangs must not keep the call from ending.
                async with asyncio.timeout(self._limits.drain_timeout_s):
                    await self.drain()
                    if self._paused_s is None:
                        await self._release()
            except TimeoutError:
                pass
            except Exception:
                assert self._stream is not None
                failure(self._stream.stream_id)
            await self._finish(reason)
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.wait([self._worker])

    async def _fail(self, error: ProtocolError) -> None:
        if not self.is_over:
            self._call.leave(error)
            await self._finish(reason_of(error))

    async def _finish(self, reason: CloseReason) -> None:
        if self.is_over:
            return
        self.is_over = True
        for line in list(self.lines):
            self.forget(line)
        stream, report = self._stream, self._report
        assert stream is not None and report is not None
        report.end(self._aligner.stats)
        try:
            if not stream.runner.has_ended():
                await self._registry.close(stream, reason)
        finally:
            self._call.over(stream, self.unread)
