"""The UDP ports for plain RTP: senders in, streams out.

Nothing announces a stream, so its first packets do: two in order, of a payload type that is known,
from an address that is allowed. Nothing ends it either, save RTCP's BYE; it is over when no packet
came for a while.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from stream_server.platforms.media_stream import call_spec
from stream_server.platforms.rtp import RtpSettings
from stream_server.rtp import EVENT, STATIC_TYPES, Payloads, RtpCodec, payloads_of
from stream_server.rtp.packets import RtpPacket, RtpTrack, parse_packet
from stream_server.rtp.ports import is_within, open_port
from stream_server.rtp.reports import ended_sources, is_control
from stream_server.rtp.stream import RtpLine, RtpStream, format_of
from stream_server.streams.listeners import ListenerContext
from stream_server.streams.registry import RunningStream
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)

V = TypeVar("V")

ROUTE = "rtp"
_MAX_REMEMBERED = 1024
"""Senders whose first packet waits for its second, who were refused, or whose stream was ended."""
_REFUSED_S = 5.0
"""How long a sender that was refused is not looked at."""


class RtpServer:
    """A :class:`~stream_server.streams.listeners.Listener` for RTP that nothing announces."""

    name = ROUTE
    is_optional = False

    def __init__(self, context: ListenerContext) -> None:
        self._context = context
        self._rtp = rtp = context.config.telephony.of(RtpSettings).rtp
        self.setting = "telephony.rtp.port" if rtp.port >= 0 else "telephony.rtp.call_ports"
        self._networks = [ipaddress.ip_network(each, strict=False) for each in rtp.allow]
        # It has neither encryption nor tokens: nobody beyond this machine even reaches it before
        # the settings name an address there.
        is_local = all(network.is_loopback for network in self._networks)
        self._host = "127.0.0.1" if is_local else context.config.listen.host
        static = {number: RtpCodec(number, *each) for number, each in STATIC_TYPES.items()}
        codecs = static | rtp.codecs
        self._payloads = {
            number: payloads for number, each in codecs.items() if (payloads := payloads_of(each))
        }
        self._events = {
            each.clock_hz: number for number, each in codecs.items() if each.name == EVENT
        }
        self._transports: list[asyncio.DatagramTransport] = []
        self.port = rtp.port
        self._calls: dict[Hashable, _Call] = {}
        self._first: OrderedDict[Hashable, tuple[int, bytes]] = OrderedDict()
        # Until when a sender is not looked at, and those whose stream this side ended: they go on
        # sending, and were to be heard no more.
        self._refused: OrderedDict[Hashable, float] = OrderedDict()
        self._silenced: OrderedDict[Hashable, float] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    async def start(self) -> None:
        """Listen. Raises OSError: a port cannot be had."""
        try:
            if self._rtp.port >= 0:
                await self._listen(self._rtp.port, None)
            if self._rtp.call_ports:
                first, last = self._rtp.call_ports
                self.setting = "telephony.rtp.call_ports"
                # Ports in pairs, and pairs whole: four numbers a call.
                for port in range(first, last - 1, 4):
                    await self._listen(port, 0)
                    await self._listen(port + 2, 1)
        except BaseException:
            for transport in self._transports:
                transport.close()
            raise
        if self._rtp.port >= 0:
            self.port = self._transports[0].get_extra_info("sockname")[1]

    async def _listen(self, port: int, side: int | None) -> None:
        self.port = port
        receive = self._datagram if side is None else partial(self._side_datagram, port, side)
        self._transports.append(await open_port(self._host, port, receive))

    async def aclose(self) -> None:
        self._draining = True
        for transport in self._transports:
            transport.close()
        goodbye = ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        try:
            async with asyncio.timeout(3 * self._context.config.limits.drain_timeout_s):
                await asyncio.gather(*(each.audio.end(goodbye) for each in self._begun()))
        except TimeoutError:
            pass
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _begun(self) -> list[_Call]:
        return list(self._calls.values())

    # -- what comes -------------------------------------------------------------------------------

    def _datagram(self, data: bytes, host: str, port: int) -> None:
        """Take a datagram of the port where every sender is a stream."""
        sender: Hashable = (host, port)
        if self._rtp.sources == "ssrc" and (packet := parse_packet(data)) is not None:
            sender = (host, port, packet.source)
        self._take(sender, 0, data, host, port)

    def _side_datagram(self, local_port: int, side: int, data: bytes, host: str, port: int) -> None:
        self._take(local_port - 2 * side, side, data, host, port)

    def _take(self, key: Hashable, side: int, data: bytes, host: str, port: int) -> None:
        if self._draining:
            return
        if not is_within(host, self._networks):
            text = "the address may not send RTP; add it to the setting telephony.rtp.allow"
            self._refuse(host, ProtocolError(ErrorCode.UNAUTHORIZED, text))
            return
        if is_control(data):
            self._bye(host, ended_sources(data))
            return
        if (call := self._calls.get(key)) is not None:
            call.put(side, data)
            return
        now_s = asyncio.get_running_loop().time()
        if self._is_unwanted(key, now_s):
            return
        packet = parse_packet(data)
        if packet is None or packet.payload_type not in self._payloads or not packet.payload:
            return
        first = self.first_of(key, side, packet)
        if first is None:
            # A stray datagram begins no stream; a second one that follows it does.
            _remember(self._first, (key, side, packet.source), (packet.number, data))
            return
        try:
            call = self._begin(key, packet, host, port)
        except ProtocolError as error:
            self._refuse(key, error)
            return
        call.put(side, first)
        call.put(side, data)

    def first_of(self, key: Hashable, side: int, packet: RtpPacket) -> bytes | None:
        """Return, once, the datagram before the first that a line gets; None: there is none."""
        number, data = self._first.pop((key, side, packet.source), (-1, b""))
        return data if data and (packet.number - number) % 65_536 == 1 else None

    def _is_unwanted(self, key: Hashable, now_s: float) -> bool:
        if self._refused.get(key, now_s) > now_s:
            return True
        last_s = self._silenced.pop(key, None)
        if last_s is None or now_s - last_s >= self._rtp.end_after_s:
            return False
        _remember(self._silenced, key, now_s)
        return True

    def _begin(self, key: Hashable, packet: RtpPacket, host: str, port: int) -> _Call:
        """Begin the stream of a sender.

        Raises:
            ProtocolError: there is no room for it, or its audio may not be analysed.
        """
        if not self._context.is_ready():
            text = "the model is being loaded"
            raise ProtocolError(ErrorCode.NOT_READY, text, retry_after_s=2.0)
        if len(self._calls) >= self._rtp.max_streams:
            raise ProtocolError(
                ErrorCode.SERVER_FULL,
                f"telephony.rtp.max_streams ({self._rtp.max_streams}) is reached",
            )
        config, roles = self._context.config, self._context.config.telephony.roles
        self._context.registry.check_capacity("")
        payloads = self._payloads[packet.payload_type]
        is_pair = isinstance(key, int)
        sender = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        details = {"platform": ROUTE, "source": f"{packet.source:08x}"}
        if is_pair:
            details["port"] = str(key)
        num_channels = 2 if is_pair else 1
        spec = call_spec(
            format_of(payloads.form, num_channels),
            roles if is_pair else (self._rtp.role or roles[0],),
            name=sender,
            details=details,
        )
        call = _Call(self, key, host)
        call.audio = audio = RtpStream(
            spec=replace(spec, team=self._rtp.team),
            form=payloads.form,
            call=call,
            route=ROUTE,
            idle_timeout_s=self._rtp.end_after_s,
            idle_is_end=True,
            registry=self._context.registry,
            config=config,
        )
        audio.begin()
        self._calls[key] = call
        return call

    def line_of(self, channel: int, packet: RtpPacket, form: tuple[str, int]) -> RtpLine | None:
        """Return a line for a side whose first packet this is; None: the stream cannot have it."""
        payloads = self._payloads.get(packet.payload_type)
        if payloads is None or payloads.form != form:
            return None
        return RtpLine(channel, self._track(payloads), payloads)

    def _track(self, payloads: Payloads) -> RtpTrack:
        clock_hz = payloads.codec.clock_hz
        # One source has one clock (RFC 4733, section 2.1), so one of another clock means this one.
        event_type = self._events.get(clock_hz, next(iter(self._events.values()), None))
        return RtpTrack(payloads.codec, payloads.rate_hz, payloads.samples_of, event_type)

    # -- what ends --------------------------------------------------------------------------------

    def _bye(self, host: str, sources: tuple[int, ...]) -> None:
        for call in self._begun():
            if call.is_over_by(host, sources):
                task = asyncio.get_running_loop().create_task(call.audio.close("stopped"))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def forget(self, key: Hashable, *, is_silenced: bool) -> None:
        """Give up a call; ``is_silenced``: what it still sends begins no other."""
        self._calls.pop(key, None)
        if is_silenced:
            _remember(self._silenced, key, asyncio.get_running_loop().time())

    def _refuse(self, key: Hashable, error: ProtocolError) -> None:
        now_s = asyncio.get_running_loop().time()
        if self._refused.get(key, now_s) <= now_s:
            _remember(self._refused, key, now_s + _REFUSED_S)
            self._context.on_refused(ROUTE, error)


def listen(context: ListenerContext) -> RtpServer | None:
    """See :data:`~stream_server.streams.listeners.Listen`."""
    rtp = context.config.telephony.of(RtpSettings).rtp
    is_off = rtp.port < 0 and not rtp.call_ports
    return None if is_off else RtpServer(context)


class _Call:
    """One stream: a sender on the shared port, or the two sides of a pair of ports."""

    audio: RtpStream

    def __init__(self, server: RtpServer, key: Hashable, host: str) -> None:
        self._server = server
        self._key = key
        self._host = host
        self._sides: dict[int, RtpLine] = {}
        self._over_sources: set[int] = set()
        self._is_silenced = False

    def put(self, side: int, data: bytes) -> None:
        line = self._sides.get(side)
        if line is None:
            packet = parse_packet(data)
            if packet is None or not (line := self._server.line_of(side, packet, self.audio.form)):
                self.audio.unread += 1
                return
            self._sides[side] = line
            self.audio.lines.append(line)
            if (first := self._server.first_of(self._key, side, packet)) is not None:
                self.audio.put(line, first)
        self.audio.put(line, data)

    def is_over_by(self, host: str, sources: tuple[int, ...]) -> bool:
        """Take what a host says is over; return whether that is all of this stream."""
        if host != self._host:
            return False
        self._over_sources.update(
            each.track.source
            for each in self._sides.values()
            if each.track.source is not None and each.track.source in sources
        )
        return bool(self._sides) and all(
            each.track.source in self._over_sources for each in self._sides.values()
        )

    def leave(self, error: ProtocolError | None) -> None:
        self._is_silenced = True
        if error is not None:
            _log.warning("rtp_ended", code=error.code.value, reason=str(error))

    def over(self, stream: RunningStream, unread: int) -> None:
        self._server.forget(self._key, is_silenced=self._is_silenced)
        _log.info("rtp_stream_ended", stream_id=stream.stream_id, unread=unread)


def _remember(known: OrderedDict[Hashable, V], key: Hashable, value: V) -> None:
    """Keep a value, and of too many the latest."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > _MAX_REMEMBERED:
        known.popitem(last=False)
