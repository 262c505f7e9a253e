"""A stream server without an engine, that fails the way a test wants it to.

It speaks the native protocol over real sockets. Every whole second of audio of a stream becomes a
segment and a point, whose ``confidence`` is a fingerprint of that second's bytes, so that a missing
or doubled byte shows.
"""

from __future__ import annotations

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from ser_engine.schema import ChannelSummary, CloseReason, LabelName, ModelNotice
from stream_server.wire.dialect import AudioData, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import (
    Discarded,
    Flush,
    Heartbeat,
    KeepAlive,
    Limits,
    Mark,
    Ready,
    ServerMessage,
    Stop,
    error_message,
)
from stream_server.wire.native import NativeDialect
from stream_server.wire.results import (
    Flushed,
    Marked,
    Point,
    Result,
    Segment,
    StreamChannel,
    Summary,
)
from stream_server.wire.start import StreamSpec

__all__ = ["FakeStream", "FakeStreamServer", "Refusal", "fingerprint"]

LABELS = ("angry", "happy", "neutral", "sad")


def fingerprint(data: bytes) -> float:
    """Return a number, 0 to 1, that tells audio apart."""
    return (zlib.crc32(data) & 0xFFFFFF) / 0xFFFFFF


@dataclass
class FakeStream:
    """A stream and all that was heard of it.

    Attributes:
        spec: what the client asked for.
        audio: everything received; missing samples are zeros.
        results: everything published, in order of ``seq``.
        discarded_samples: what the client said it had lost.
        lost_samples: what was missing when it came back.
    """

    stream_id: str
    spec: StreamSpec
    audio: bytearray = field(default_factory=bytearray)
    results: list[Result] = field(default_factory=list)
    discarded_samples: int = 0
    lost_samples: int = 0
    controls: int = 0
    published_s: int = 0
    is_stopped: bool = False

    @property
    def channel(self) -> int:
        """The one that is analysed: the first that is not the agent's."""
        roles = [channel.role for channel in self.spec.channels]
        return next(index for index, role in enumerate(roles) if role != "agent")

    @property
    def points(self) -> list[Point]:
        """The points among the results."""
        return [each for each in self.results if isinstance(each, Point)]


@dataclass(frozen=True)
class Refusal:
    """An answer to the handshake that is not a WebSocket."""

    status: HTTPStatus
    body: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class FakeStreamServer:
    """What it does to its clients.

    Attributes:
        refusals: one is taken from the front for each handshake, until there are none.
        drop_after: bytes of audio of a connection after which it is broken, without a word; one is
            taken for each connection, until there are none.
        errors_after: the same, but with an error of the protocol.
        stops_after: the same, as a server does it that is stopped: all of the stream is published,
            the summary included, then comes the error.
        forget_streams: True: nobody can resume.
        stay_silent: kinds of answers that never come: ``ready``, ``summary``.
        gate: audio is only read while it is set.
        headers: of every handshake.
        streams: in the order of their beginning.
    """

    refusals: list[Refusal] = field(default_factory=list)
    drop_after: list[int] = field(default_factory=list)
    errors_after: list[tuple[int, ErrorCode]] = field(default_factory=list)
    stops_after: list[int] = field(default_factory=list)
    forget_streams: bool = False
    stay_silent: frozenset[str] = frozenset()
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    headers: list[Headers] = field(default_factory=list)
    streams: list[FakeStream] = field(default_factory=list)
    keep_alives: int = 0
    num_connections: int = 0
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    heard: asyncio.Condition = field(default_factory=asyncio.Condition)
    url: str = ""

    async def wait_for_audio(self, num_bytes: int) -> None:
        """Return when so much of the last stream has come."""
        async with self.heard:
            await self.heard.wait_for(
                lambda: bool(self.streams) and len(self.streams[-1].audio) >= num_bytes
            )

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[FakeStreamServer]:
        """Listen on loopback."""
        self.gate.set()
        async with serve(
            self._serve,
            "127.0.0.1",
            port,
            process_request=self._process_request,
            compression=None,
        ) as server:
            self.url = f"ws://127.0.0.1:{_port(server)}"
            yield self

    def _process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        self.headers.append(request.headers)
        if not self.refusals:
            return None
        refusal = self.refusals.pop(0)
        return connection.respond(refusal.status, json.dumps(refusal.body))

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            await _Connection(self, connection).run()
        except ConnectionClosed:
            pass


class _Connection:
    def __init__(self, server: FakeStreamServer, connection: ServerConnection) -> None:
        self._server = server
        self._connection = connection
        self._dialect = NativeDialect()
        self._stream: FakeStream | None = None
        self._num_bytes = 0
        self._drop_after = server.drop_after.pop(0) if server.drop_after else None
        self._error_after = server.errors_after.pop(0) if server.errors_after else None
        self._stop_after = server.stops_after.pop(0) if server.stops_after else None
        server.num_connections += 1

    async def run(self) -> None:
        async for message in self._connection:
            for inbound in self._dialect.receive(message):
                if await self._take(inbound):
                    return
            await self._server.gate.wait()

    async def _take(self, inbound: Inbound) -> bool:
        """Act on one request; return whether the connection is over."""
        match inbound:
            case StreamSpec():
                await self._begin(inbound)
            case AudioData(data):
                return await self._hear(data)
            case KeepAlive():
                self._server.keep_alives += 1
            case Discarded(samples=samples):
                stream = self._count_control()
                stream.discarded_samples += samples
                stream.audio += bytes(samples * stream.spec.format.bytes_per_tick)
                await self._publish_seconds()
            case Mark(name=name):
                stream = self._count_control()
                at_s = self._received / stream.spec.format.sample_rate_hz
                await self._publish(
                    Marked(
                        stream_id=stream.stream_id,
                        seq=len(stream.results),
                        name=name,
                        at_sample=round(at_s * 16_000),
                        at_s=at_s,
                    )
                )
            case Flush():
                stream = self._count_control()
                await self._publish(
                    Flushed(
                        stream_id=stream.stream_id, seq=len(stream.results), at_sample=0, at_s=0
                    )
                )
            case Stop():
                self._count_control()
                if "summary" not in self._server.stay_silent:
                    await self._finish()
                    return True
            case _:
                raise AssertionError(f"no client here sends {inbound}")
        return False

    @property
    def _received(self) -> int:
        assert self._stream is not None
        return len(self._stream.audio) // self._stream.spec.format.bytes_per_tick

    def _count_control(self) -> FakeStream:
        assert self._stream is not None
        self._stream.controls += 1
        return self._stream

    async def _begin(self, spec: StreamSpec) -> None:
        server = self._server
        resumed = spec.resume is not None and not server.forget_streams
        if resumed:
            assert spec.resume is not None
            number = int(spec.resume.token)
            self._stream = server.streams[number]
            lost_samples = max(0, spec.resume.next_sample - self._received)
            self._stream.lost_samples += lost_samples
            self._stream.audio += bytes(lost_samples * spec.format.bytes_per_tick)
        else:
            number = len(server.streams)
            self._stream = FakeStream(f"stream-{number}", spec)
            server.streams.append(self._stream)
        server.connected.set()
        if "ready" in server.stay_silent:
            return
        stream = self._stream
        await self._say(
            Ready(
                version=1,
                stream_id=stream.stream_id,
                resume_token=str(number),
                resumed=resumed,
                received_samples=self._received,
                received_controls=stream.controls,
                model=ModelNotice(name="fake", licence="none", notice="A fake model."),
                labels=tuple(LabelName(name=each, name_zh=each) for each in LABELS),
                channels=tuple(
                    StreamChannel(
                        index=index,
                        role=channel.role,
                        name=channel.name,
                        analysed=channel.role != "agent",
                    )
                    for index, channel in enumerate(spec.channels)
                ),
                window_ms=4000,
                step_ms=1000,
                look_ahead_ms=240,
                frame_hop_ms=20,
                limits=Limits(
                    max_message_bytes=1 << 20,
                    max_messages_per_s=500,
                    idle_timeout_s=60,
                    max_stream_s=14_400,
                    resume_window_s=30,
                ),
            )
        )
        if resumed:
            assert spec.resume is not None
            for result in stream.results[spec.resume.last_seq + 1 :]:
                await self._say(result)

    async def _hear(self, data: bytes) -> bool:
        assert self._stream is not None
        if self._drop_after is not None and self._num_bytes + len(data) >= self._drop_after:
            self._connection.transport.abort()
            return True
        if self._error_after is not None and self._num_bytes + len(data) >= self._error_after[0]:
            await self._fail(self._error_after[1])
            return True
        if self._stop_after is not None and self._num_bytes + len(data) >= self._stop_after:
            await self._publish(self._summary("server_stopped"))
            await self._fail(ErrorCode.SHUTTING_DOWN)
            return True
        self._num_bytes += len(data)
        self._stream.audio += data
        async with self._server.heard:
            self._server.heard.notify_all()
        await self._publish_seconds()
        return False

    async def _publish_seconds(self) -> None:
        stream = self._stream
        assert stream is not None
        second = stream.spec.format.bytes_per_s
        while len(stream.audio) >= (stream.published_s + 1) * second:
            at_s = stream.published_s
            stream.published_s += 1
            await self._publish(_point(stream, at_s))
            await self._publish(_segment(stream, at_s))
            await self._say(
                Heartbeat(
                    stream_id=stream.stream_id,
                    received_samples=self._received,
                    received_controls=stream.controls,
                    received_s=self._received / stream.spec.format.sample_rate_hz,
                    published_s=stream.published_s,
                    lag_ms=0,
                    real_time_factor=0.1,
                    effective_step_ms=1000,
                )
            )

    async def _publish(self, result: Result) -> None:
        assert self._stream is not None
        self._stream.results.append(result)
        await self._say(result)

    async def _fail(self, code: ErrorCode) -> None:
        error = ProtocolError(code, "got this, expected that")
        await self._say(error_message(error))
        assert error.kind.close_code is not None
        await self._connection.close(error.kind.close_code)

    async def _finish(self) -> None:
        assert self._stream is not None
        self._stream.is_stopped = True
        await self._publish(self._summary("stopped"))
        await self._connection.close()

    def _summary(self, reason: CloseReason) -> Summary:
        stream = self._stream
        assert stream is not None
        return Summary(
            stream_id=stream.stream_id,
            seq=len(stream.results),
            reason=reason,
            duration_s=self._received / stream.spec.format.sample_rate_hz,
            received_samples=self._received,
            channels=(
                ChannelSummary(
                    channel=stream.channel,
                    role=stream.spec.channels[stream.channel].role,
                    scored_s=stream.published_s,
                    label_s={"happy": stream.published_s},
                    gap_s={},
                    points=stream.published_s,
                ),
            ),
            alerts=0,
        )

    async def _say(self, message: ServerMessage) -> None:
        for text in self._dialect.send(message):
            await self._connection.send(text)


def _point(stream: FakeStream, at_s: int) -> Point:
    second = stream.spec.format.bytes_per_s
    return Point(
        stream_id=stream.stream_id,
        seq=len(stream.results),
        channel=stream.channel,
        role=stream.spec.channels[stream.channel].role,
        start_sample=at_s * 16_000,
        end_sample=(at_s + 1) * 16_000,
        start_s=at_s,
        end_s=at_s + 1,
        posteriors=(0.1, 0.7, 0.1, 0.1),
        label="happy",
        confidence=fingerprint(bytes(stream.audio[at_s * second : (at_s + 1) * second])),
        speech_share=1.0,
        provisional=False,
        widened=False,
        narrow_band=False,
        model="fake",
    )


def _segment(stream: FakeStream, at_s: int) -> Segment:
    return Segment(
        stream_id=stream.stream_id,
        seq=len(stream.results),
        channel=stream.channel,
        role=stream.spec.channels[stream.channel].role,
        start_sample=at_s * 16_000,
        end_sample=(at_s + 1) * 16_000,
        start_s=at_s,
        end_s=at_s + 1,
        label="happy",
        confidence=0.7,
        final=True,
    )


def _port(server: Server) -> int:
    return int(next(iter(server.sockets)).getsockname()[1])
