"""One recorded call: the stream, and the RTP ports that fill it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import secrets
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ser_engine.schema import CloseReason
from stream_server.access import SIGNED
from stream_server.config import ServerConfig
from stream_server.platforms.media_stream import DTMF_MARK, call_spec
from stream_server.platforms.siprec import SiprecConfig, SiprecSettings
from stream_server.platforms.siprec.codecs import (
    SAMPLE_BYTES,
    Payloads,
    chosen_of,
    understood_names,
)
from stream_server.platforms.siprec.messages import Request
from stream_server.platforms.siprec.metadata import (
    MIXED_ROLE,
    body_parts,
    parse_metadata,
    roles_of_lines,
)
from stream_server.platforms.siprec.rtp import RtpTrack, Timed
from stream_server.platforms.siprec.sdp import (
    Accepted,
    Media,
    is_receivable,
    make_answer,
    parse_offer,
)
from stream_server.streams.connection import failure, reason_of
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.registry import RunningStream, StreamRegistry
from stream_server.streams.runner import TrackReport
from stream_server.streams.socket import MessageRate
from stream_server.tracks import CodedTracks, TrackAligner, track_format
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, CodedAudio
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Mark, Pause, Resume

_log = structlog.get_logger(__name__)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_QUEUED = 1024
"""Packets that wait for the stream, some ten seconds' worth; what comes then is lost."""
ROUTE = "siprec"


class RtpPorts:
    """The UDP ports for RTP.

    Args:
        host: that is bound to.
        first, last: of the ports.
        descriptors: of the process.
    """

    def __init__(self, host: str, first: int, last: int, descriptors: Descriptors) -> None:
        self._host = host
        self._ports = range(first + first % 2, last + 1, 2)
        self._next = 0
        self._descriptors = descriptors

    async def open(
        self, receive: Callable[[bytes, str], None]
    ) -> tuple[asyncio.DatagramTransport, int]:
        """Open the next free port.

        Args:
            receive: called with each datagram and the address it comes from.

        Raises:
            ProtocolError: ``SERVER_FULL``: none is free.
        """
        loop = asyncio.get_running_loop()
        for _ in self._ports:
            # In turn, so that late packets of a call that ended do not fall into another.
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    lambda: _Receiver(receive), local_addr=(self._host, port)
                )
            except OSError:
                continue
            socket = transport.get_extra_info("socket")
            if self._descriptors.over_for_calls(socket.fileno()) > 0:
                transport.close()
                raise ProtocolError(
                    ErrorCode.SERVER_FULL, "the server has no more descriptors for calls"
                )
            return transport, port
        raise ProtocolError(
            ErrorCode.SERVER_FULL, "all ports of telephony.siprec.rtp_ports are in use"
        )


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[bytes, str], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, addr[0])


@dataclass(slots=True, eq=False)
class _Line:
    """A media line that is received.

    Attributes:
        channel: of the stream.
        transport: its port.
        port: its number.
        track: its packets.
        payloads: how they are read.
        media: what was offered last.
    """

    channel: int
    transport: asyncio.DatagramTransport
    port: int
    track: RtpTrack
    payloads: Payloads
    media: Media


class RecordingCall:
    """Puts the media lines of one SIP dialog into one stream.

    Args:
        call_id: of the dialog.
        peer: address of the caller.
        address: that it is told to send RTP to.
        ports: for RTP.
        networks: that RTP may come from, beside the caller and where it says.
        registry: where the stream is begun.
        config: the server's settings.
        on_left: called once this side ends the call, before it is over.
    """

    def __init__(
        self,
        *,
        call_id: str,
        peer: str,
        address: str,
        ports: RtpPorts,
        networks: Sequence[Network],
        registry: StreamRegistry,
        config: ServerConfig,
        on_left: Callable[[], None],
    ) -> None:
        self._call_id = call_id
        self._peer = peer
        self._address = address
        self._ports = ports
        self._networks = networks
        self._registry = registry
        self._config = config
        self._siprec: SiprecConfig = config.telephony.of(SiprecSettings).siprec
        self._on_left = on_left
        self._session_id = secrets.randbits(62)
        self._version = 0
        self._answer = b""
        self._lines: dict[int, _Line] = {}  # by the place in the offer
        self._num_channels = 0
        self._form = ("", 0)  # see Payloads
        self._wait_ms = config.telephony.max_jitter_ms
        self._stream: RunningStream | None = None
        self._aligner: TrackAligner | CodedTracks | None = None
        self._report: TrackReport | None = None
        self._queue: deque[tuple[_Line, Timed]] = deque()
        self._came = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._limits = config.limits
        now_s = self._loop.time()
        self._rate = MessageRate(self._limits.max_messages_per_s, now_s, what="packets")
        self._start_s = self._heard_s = now_s
        self._paused_s: float | None = None
        self._worker: asyncio.Task[None] | None = None
        self._is_over = False
        # The worker and changes of the call take turns: a stream takes requests one at a time.
        self._turn = asyncio.Lock()
        self._strangers = self._unread = 0

    @property
    def is_over(self) -> bool:
        """Whether its stream has ended."""
        return self._is_over

    # -- offers -----------------------------------------------------------------------------------

    async def open(self, request: Request) -> bytes:
        """Begin the stream; return the session description that answers the INVITE.

        Raises:
            ProtocolError: the call is refused; nothing is left of it.
        """
        description, about = body_parts(request)
        offered = parse_offer(description)
        metadata = parse_metadata(about) if about else parse_metadata(b"<recording/>")
        chosen = chosen_of(offered, most=len(self._config.telephony.roles), received=(), form=None)
        if not chosen:
            raise ProtocolError(ErrorCode.BAD_FORMAT, _nothing_received(offered))
        lines = [(index, offered[index].label) for index in chosen]
        roles = roles_of_lines(metadata, lines, self._config.telephony.roles, self._siprec.agents)
        if len(roles) == 1 and roles[0] != MIXED_ROLE:
            # The other side may come with a later offer; until then it is a gap.
            roles += [each for each in self._config.telephony.roles if each != roles[0]][:1]
        self._num_channels = len(roles)
        self._form = coded, rate_hz = next(iter(chosen.values())).form
        audio_format = (
            track_format(coded, self._num_channels)
            if coded
            else AudioFormat("pcm_s16le", rate_hz, self._num_channels)
        )
        spec = call_spec(
            audio_format,
            roles,
            name=self._call_id,
            details={"platform": "siprec", "session_id": metadata.session_id},
        )
        try:
            await self._receive(offered, chosen)
            self._stream = self._registry.open(
                replace(spec, team=self._siprec.team), SIGNED, self, route=ROUTE
            )
        except BaseException:
            self._close_lines()
            raise
        put_in_order = CodedTracks if coded else TrackAligner
        self._aligner = put_in_order(audio_format, max_jitter_ms=self._wait_ms)
        self._report = TrackReport(self._stream.runner)
        self._heard_s = self._loop.time()
        await self._pause_or_resume(offered)
        self._worker = self._loop.create_task(self._run(), name="siprec call")
        return self._answered(offered)

    async def change(self, request: Request) -> bytes:
        """Take another offer within the call; return its answer.

        Raises:
            ProtocolError: it is refused, and the call goes on as it was.
        """
        description, _ = body_parts(request)
        if not description:
            # News of the metadata, or a client that wants to be offered what there is.
            return b"" if request.method == "UPDATE" else self._answer
        async with self._turn:
            offered = parse_offer(description)
            chosen = chosen_of(
                offered, most=self._num_channels, received=self._lines, form=self._form
            )
            # That all lines are given up is a pause.
            if not chosen and any(is_receivable(each) for each in offered):
                raise ProtocolError(ErrorCode.BAD_FORMAT, _nothing_received(offered))
            # What came before is read as it was told then.
            await self._drain()
            await self._receive(offered, chosen)
            await self._pause_or_resume(offered)
            return self._answered(offered)

    async def _receive(self, offered: Sequence[Media], chosen: Mapping[int, Payloads]) -> None:
        """Open, change and close ports as the offer asks."""
        # New ones first: where there is none, all stays as it is.
        kept = {index: line for index, line in self._lines.items() if index in chosen}
        free = sorted(set(range(self._num_channels)) - {each.channel for each in kept.values()})
        new: dict[int, _Line] = {}
        try:
            for index in sorted(chosen.keys() - kept.keys()):
                payloads, media = chosen[index], offered[index]
                transport, port = await self._ports.open(partial(self._datagram, index))
                event_type = media.event_type(payloads.codec.clock_hz)
                track = RtpTrack(payloads.codec, payloads.rate_hz, payloads.samples_of, event_type)
                new[index] = _Line(free.pop(0), transport, port, track, payloads, media)
        except BaseException:
            for line in new.values():
                line.transport.close()
            raise
        for index in self._lines.keys() - kept.keys():
            self._lines.pop(index).transport.close()
        for index, line in kept.items():
            line.payloads, line.media = chosen[index], offered[index]
            event_type = line.media.event_type(line.payloads.codec.clock_hz)
            line.track.change(line.payloads.codec, line.payloads.samples_of, event_type)
        self._lines.update(new)

    def _answered(self, offered: Sequence[Media]) -> bytes:
        self._version += 1
        accepted = [
            Accepted(line.payloads.codec, line.port) if (line := self._lines.get(index)) else None
            for index in range(len(offered))
        ]
        self._answer = make_answer(
            offered,
            accepted,
            address=self._address,
            session_id=self._session_id,
            version=self._version,
        )
        return self._answer

    async def _pause_or_resume(self, offered: Sequence[Media]) -> None:
        """Pause the stream while no line is sent on."""
        is_active = any(offered[index].is_active for index in self._lines)
        assert self._stream is not None
        if is_active and self._paused_s is not None:
            self._start_s += self._loop.time() - self._paused_s
            self._paused_s, self._heard_s = None, self._loop.time()
            for line in self._lines.values():
                line.track.restart()
            await self._hand_over(self._stream, Resume())
        elif not is_active and self._paused_s is None:
            await self._drain()
            await self._release()
            self._paused_s = self._loop.time()
            await self._hand_over(self._stream, Pause())

    # -- audio ------------------------------------------------------------------------------------

    def _datagram(self, index: int, data: bytes, host: str) -> None:
        """Take a datagram of a media line."""
        line, now_s = self._lines.get(index), self._loop.time()
        # People pause to keep something private: what comes all the same is not looked at.
        if line is None or self._is_over or self._paused_s is not None:
            return
        if not self._may_send(host, line.media):
            self._strangers += 1
            return
        with contextlib.suppress(ProtocolError):
            self._rate.take(1, now_s)
            if len(self._queue) < MAX_QUEUED:
                now_tick = round((now_s - self._start_s) * self._form[1])
                timed = line.track.put(data, now_tick)
                self._queue.extend((line, each) for each in timed)
                # By half of the wait, so that what is said after it is still in time.
                quiet_tick = now_tick - self._wait_ms * self._form[1] // 2000
                for other in self._lines.values():
                    if other is not line:
                        quiet = other.track.quiet_until(quiet_tick)
                        self._queue.extend((other, each) for each in quiet)
                self._came.set()
                if timed:
                    self._heard_s = now_s
                return
        # Its number is missing now, so its time is lost and is told so.
        self._unread += 1

    def _may_send(self, host: str, media: Media) -> bool:
        address = plain_address(host)
        if address is None:
            return False
        named = (plain_address(self._peer), plain_address(media.address))
        return address in named or any(address in each for each in self._networks)

    async def _run(self) -> None:
        """Hand over what comes until the call ends."""
        beat_s = self._loop.time()
        try:
            while not self._is_over:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(beat_s):
                        await self._came.wait()
                async with self._turn:
                    await self._drain()
                    if self._loop.time() >= beat_s and not self._is_over:
                        await self._beat()
                        beat_s = self._loop.time() + self._config.streams.heartbeat_ms / 1000
        except Exception:
            assert self._stream is not None
            await self._fail(failure(self._stream.stream_id))

    async def _drain(self) -> None:
        """Hand over what is queued."""
        while self._queue and not self._is_over:
            line, timed = self._queue.popleft()
            stream = self._stream
            assert stream is not None
            for piece in self._placed(line, timed):
                await self._hand_over(stream, piece)
            if timed.key:
                await self._hand_over(stream, Mark(name=DTMF_MARK, key=timed.key))
        self._came.clear()

    def _placed(self, line: _Line, timed: Timed) -> Sequence[AudioData | CodedAudio]:
        """Put a packet in its place; return what is complete with it."""
        tracks, channel, silence = self._aligner, line.channel, timed.silence
        at_tick, number, payload = timed.at_tick, timed.number, timed.payload
        if isinstance(tracks, TrackAligner):
            samples = bytes(silence * SAMPLE_BYTES) + line.payloads.decode(payload)
            return tracks.put(channel, samples, at_tick=at_tick, number=number)
        assert tracks is not None
        if not payload:
            return tracks.rest(channel, silence, at_tick=at_tick, number=number)
        return tracks.put(channel, payload, at_tick=at_tick, number=number, silence=silence)

    async def _release(self) -> None:
        """Hand over what waits for earlier packets, or for the other side."""
        assert self._stream is not None and self._aligner is not None
        for piece in self._aligner.flush():
            await self._hand_over(self._stream, piece)

    async def _beat(self) -> None:
        stream, aligner, report = self._stream, self._aligner, self._report
        assert stream is not None and aligner is not None and report is not None
        stream.runner.heartbeat()  # Not sent to anyone, but it updates the lag in /metrics.
        report.check(aligner.stats)
        limits, now_s = self._limits, self._loop.time()
        if self._paused_s is None and now_s - self._heard_s >= limits.idle_timeout_s:
            text = f"got no RTP for {limits.idle_timeout_s:g} s"
            await self._fail(ProtocolError(ErrorCode.IDLE, text))
        elif self._paused_s is not None and now_s - self._paused_s >= limits.max_stream_s:
            text = f"the call was paused for {limits.max_stream_s:g} s"
            await self._fail(ProtocolError(ErrorCode.IDLE, text))

    async def _hand_over(
        self, stream: RunningStream, each: AudioData | CodedAudio | Mark | Pause | Resume
    ) -> None:
        if self._is_over:
            return
        try:
            await stream.runner.handle(each)
        except ProtocolError as error:
            if error.ends_stream:
                await self._fail(error)

    # -- ending -----------------------------------------------------------------------------------

    async def end(self, error: ProtocolError) -> None:
        """End the call for a reason of this side; return when its stream is free."""
        if not self._is_over:
            self._on_left()
        await self.close(reason_of(error))

    async def close(self, reason: CloseReason) -> None:
        """End the stream, because the other side ended the call."""
        async with self._turn:
            if self._is_over:
                return
            try:
                # An engine that hangs must not keep the call from ending.
                async with asyncio.timeout(self._limits.drain_timeout_s):
                    await self._drain()
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
        """End the call where the stream cannot go on."""
        if not self._is_over:
            _log.warning("siprec_ended", code=error.code.value, reason=str(error))
            self._on_left()
            await self._finish(reason_of(error))

    async def _finish(self, reason: CloseReason) -> None:
        if self._is_over:
            return
        self._is_over = True
        self._close_lines()
        stream, aligner, report = self._stream, self._aligner, self._report
        assert stream is not None and aligner is not None and report is not None
        report.end(aligner.stats)
        if not stream.runner.has_ended():
            await self._registry.close(stream, reason)
        _log.info(
            "siprec_call_ended",
            stream_id=stream.stream_id,
            strangers=self._strangers,
            unread=self._unread,
        )

    def _close_lines(self) -> None:
        for line in self._lines.values():
            self._unread += line.track.malformed
            line.transport.close()
        self._lines.clear()


def _nothing_received(offered: Sequence[Media]) -> str:
    if any(each.profile.startswith("RTP/S") or "/TLS/" in each.profile for each in offered):
        return "got media lines with SRTP, expected RTP/AVP: encrypted audio cannot be received"
    names = sorted({codec.name for each in offered for codec in each.codecs})
    listed = ", ".join(names)[:200] or "none"
    expected = understood_names()
    return f"got no audio line with a codec that is understood ({listed}), expected {expected}"


def plain_address(host: str) -> Address | None:
    """Return an address; None: it is none."""
    try:
        # Link-local IPv6 addresses come with a zone: fe80::1%eth0 (RFC 4007).
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
