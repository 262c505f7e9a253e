"""One AudioSocket call: the stream, and the one or two connections that fill it.

A connection carries one channel, so a call with both sides has two, with one UUID. The first gets
the first of the settings' roles, the second the other. Nothing on the wire tells when audio was
spoken: both are placed on one clock by their times of arrival.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Protocol

import structlog

from ser_engine.schema import CloseReason
from stream_server.access import SIGNED
from stream_server.config import ServerConfig
from stream_server.platforms.asterisk import AsteriskSettings
from stream_server.streams.connection import failure, reason_of
from stream_server.streams.pace import RateMeter
from stream_server.streams.registry import RunningStream, StreamRegistry
from stream_server.tracks import TrackAligner
from stream_server.tracks.drift import ArrivalTimes
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ChannelSpec, Mark
from stream_server.wire.start import StreamSpec

_log = structlog.get_logger(__name__)


_OFF = 0.2
"""Share by which the median of them may be off: bursts and clocks are off by far less."""


class RateCheck:
    """Notices audio of one connection that comes at another rate than its frames say."""

    def __init__(self, rate_hz: int) -> None:
        self._rate_hz = rate_hz
        self._is_measured = False
        self._samples = 0
        self._meter = RateMeter()

    def take(self, num_samples: int, now_s: float) -> str | None:
        """Count samples that just came; return a warning, once, or None."""
        if self._is_measured:
            return None
        self._samples += num_samples
        self._meter.take(self._samples / self._rate_hz, now_s)
        self._is_measured = self._meter.is_full
        if not self._is_measured:
            return None
        share = median(self._meter.shares)
        if abs(share - 1) <= _OFF:
            return None
        text = f"audio comes at {share:.2f} times the {self._rate_hz} Hz that its frames say"
        if 0.4 < share < 0.6:
            # A byte a sample where two are expected.
            text += (
                "; the likely cause is 8 kHz mu-law or A-law in frames of 16-bit audio: give the"
                " channel the format slin"
            )
        elif 1.6 < share < 2.4:
            text += "; the likely cause is audio of twice the rate: name its rate by the frame type"
        return text


class CallLeg(Protocol):
    """A connection of a call."""

    def hang_up(self, error: ProtocolError) -> None:
        """End the connection for a reason outside of it; it leaves the call later."""
        ...


class AudioSocketCall:
    """Puts the audio of its connections into one stream.

    Args:
        registry: where the stream is begun, with the first audio: before that its rate is unknown.
        on_end: called when no connection may join the call any more.
    """

    def __init__(
        self,
        call_id: str,
        registry: StreamRegistry,
        config: ServerConfig,
        on_end: Callable[[AudioSocketCall], None],
    ) -> None:
        self.call_id = call_id
        self._registry = registry
        self._config = config
        self._on_end = on_end
        self._roles = config.telephony.roles[
            : config.telephony.of(AsteriskSettings).audiosocket.channels
        ]
        self._legs: dict[int, CallLeg] = {}
        self._num_joined = 0
        self._stream: RunningStream | None = None
        self._aligner: TrackAligner | None = None
        self._times: list[ArrivalTimes] = []
        self._rates: list[RateCheck] = []
        self._rate_hz = 0
        self._beat_s = 0.0
        self.is_over = False  # no connection may join any more
        # The connections share the stream, which takes requests one at a time.
        self._turn = asyncio.Lock()

    def join(self, leg: CallLeg) -> int:
        """Add a connection; return its channel.

        Raises:
            ProtocolError: the call has all its connections, or had them.
        """
        if self._num_joined == len(self._roles):
            raise ProtocolError(
                ErrorCode.BAD_START,
                f"got connection {self._num_joined + 1} with one UUID, expected at most"
                f" {len(self._roles)}: the setting telephony.audiosocket.channels",
            )
        # By order of arrival: AudioSocket has no field for a direction.
        channel = self._num_joined
        self._num_joined += 1
        self._legs[channel] = leg
        return channel

    async def put(self, channel: int, rate_hz: int, data: bytes, now_s: float) -> None:
        """Take audio that just came; return when there is room for more.

        Raises:
            ProtocolError: the connection has to end. If the stream ends, all connections hang up.
        """
        async with self._turn:
            if self.is_over:
                return
            stream, aligner = self._open(rate_hz, now_s)
            if rate_hz != self._rate_hz:
                raise ProtocolError(
                    ErrorCode.BAD_FORMAT,
                    f"got audio of {rate_hz} Hz in a call of {self._rate_hz} Hz, expected one rate:"
                    " give both channels the same codec",
                )
            # By this machine's clock, in samples: it is what both connections share.
            if (warning := self._rates[channel].take(len(data) // 2, now_s)) is not None:
                stream.runner.warn("clock_drift", warning, channel)
            placed = self._times[channel].put(data, round(now_s * rate_hz))
            await self._hand_over(stream, _aligned(aligner, channel, placed))
            if now_s >= self._beat_s:
                stream.runner.heartbeat()  # Not sent to anyone, but it updates the lag in /metrics.
                self._beat_s = now_s + self._config.streams.heartbeat_ms / 1000

    async def mark(self, name: str, key: str = "") -> None:
        """Mark the position of the audio so far; nothing before the first audio."""
        async with self._turn:
            if self._stream is not None and not self.is_over:
                await self._hand_over(self._stream, [Mark(name=name, key=key)])

    async def leave(self, channel: int, reason: CloseReason) -> None:
        """Remove a connection; the stream ends with the last one."""
        self._legs.pop(channel, None)
        if not self._legs:
            self._end_joining()
        async with self._turn:
            if not self._legs:
                await self._close(reason)
            elif self._stream is not None and self._aligner is not None and not self.is_over:
                # Its last audio may be held as late; the other side continues without it.
                placed = self._times[channel].flush()
                await self._hand_over(self._stream, _aligned(self._aligner, channel, placed))

    async def end(self, error: ProtocolError) -> None:
        """End the call; return when its stream is free."""
        self._end_joining()
        for leg in self._legs.values():
            leg.hang_up(error)
        async with self._turn:
            await self._close(reason_of(error))

    def _open(self, rate_hz: int, now_s: float) -> tuple[RunningStream, TrackAligner]:
        if self._stream is None or self._aligner is None:
            audio_format = AudioFormat("pcm_s16le", rate_hz, len(self._roles))
            spec = StreamSpec(
                format=audio_format,
                channels=tuple(ChannelSpec(role=role) for role in self._roles),
                name=self.call_id,
                call_id=self.call_id,
                metadata={"platform": "asterisk-audiosocket"},
                wants=frozenset(),
                team=self._config.telephony.of(AsteriskSettings).audiosocket.team,
            )
            self._stream = self._registry.open(spec, SIGNED, self, route="audiosocket")
            self._aligner = TrackAligner(
                audio_format,
                max_jitter_ms=self._config.telephony.max_jitter_ms,
                ticks="arrival",
            )
            jitter_ms = self._config.telephony.max_jitter_ms
            self._times = [ArrivalTimes(rate_hz, jitter_ms) for _ in self._roles]
            self._rates = [RateCheck(rate_hz) for _ in self._roles]
            self._rate_hz = rate_hz
            self._beat_s = now_s + self._config.streams.heartbeat_ms / 1000
        return self._stream, self._aligner

    async def _hand_over(self, stream: RunningStream, requests: Iterable[AudioData | Mark]) -> None:
        try:
            for each in requests:
                await stream.runner.handle(each)
        except ProtocolError as error:
            if error.ends_stream:
                await self._fail(error)
        except Exception:
            await self._fail(failure(stream.stream_id))

    async def _fail(self, error: ProtocolError) -> None:
        self._end_joining()
        for leg in self._legs.values():
            leg.hang_up(error)
        assert self._stream is not None
        await self._registry.close(self._stream, reason_of(error))

    def _end_joining(self) -> None:
        if not self.is_over:
            # Before on_end: a third connection with this UUID is a new call.
            self.is_over = True
            self._on_end(self)

    async def _close(self, reason: CloseReason) -> None:
        stream, aligner = self._stream, self._aligner
        # First, so that nothing is added while the last results are awaited.
        self._stream = self._aligner = None
        if stream is None or aligner is None or stream.runner.has_ended():
            return
        await self._hand_over_last(stream, aligner)
        await self._registry.close(stream, reason)
        stats = aligner.stats
        _log.info(
            "call_ended",
            stream_id=stream.stream_id,
            connections=self._num_joined,
            lost_ms=[channel.lost_ms for channel in stats.channels],
        )

    async def _hand_over_last(self, stream: RunningStream, aligner: TrackAligner) -> None:
        try:
            # An engine that hangs must not keep the call from ending.
            async with asyncio.timeout(self._config.limits.drain_timeout_s):
                for channel, times in enumerate(self._times):
                    for each in _aligned(aligner, channel, times.flush()):
                        await stream.runner.handle(each)
                for each in aligner.flush():
                    await stream.runner.handle(each)
        except (ProtocolError, TimeoutError):
            pass  # The stream ends in any case.
        except Exception:
            failure(stream.stream_id)


def _aligned(
    aligner: TrackAligner, channel: int, placed: Iterable[tuple[bytes, int]]
) -> Iterator[AudioData]:
    """Yield the audio that pieces with their times complete."""
    for data, at_tick in placed:
        yield from aligner.put(channel, data, at_tick=at_tick)
