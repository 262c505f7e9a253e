"""One recorded call: what its offers ask for, and the RTP ports that it gets."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import structlog

from ser_engine.schema import CloseReason
from stream_server.config import ServerConfig
from stream_server.platforms.media_stream import call_spec
from stream_server.platforms.siprec import SiprecConfig, SiprecSettings
from stream_server.platforms.siprec.messages import Request
from stream_server.platforms.siprec.metadata import (
    MIXED_ROLE,
    body_parts,
    parse_metadata,
    roles_of_lines,
)
from stream_server.platforms.siprec.sdp import (
    Accepted,
    Media,
    chosen_of,
    is_receivable,
    make_answer,
    parse_offer,
    takes_mux,
)
from stream_server.rtp import Payloads, understood_names
from stream_server.rtp.packets import RtpTrack
from stream_server.rtp.ports import Network, RtpPorts, is_within, plain_address
from stream_server.rtp.reports import Reporter, ended_sources, is_control
from stream_server.rtp.secure import SUITES, Crypto, Srtp, can_secure, own_crypto
from stream_server.rtp.stream import RtpLine, RtpStream, format_of
from stream_server.streams.registry import RunningStream, StreamRegistry
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)

ROUTE = "siprec"


@dataclass(slots=True, eq=False)
class _Media:
    """A media line that is received."""

    line: RtpLine
    transport: asyncio.DatagramTransport
    reports: asyncio.DatagramTransport
    port: int
    offered: Media
    reporter: Reporter
    srtp: Srtp | None = None

    @property
    def has_mux(self) -> bool:
        """Whether RTCP comes on the port of RTP."""
        return takes_mux(self.offered, self.line.payloads.codec)

    @property
    def own_crypto(self) -> Crypto | None:
        """What the answer says; None: the line is not encrypted."""
        return None if self.srtp is None else self.srtp.own

    def take(self, offered: Media) -> None:
        """Take over what an offer says of the line.

        Raises:
            ProtocolError: its key cannot be used.
        """
        crypto = offered.crypto if offered.profile.startswith("RTP/S") else None
        if crypto is None:
            self.srtp = None
        elif self.srtp is None or self.srtp.theirs != crypto:
            self.srtp = Srtp(crypto, own_crypto(crypto))
        self.offered = offered

    def close(self) -> None:
        self.transport.close()
        self.reports.close()


class RecordingCall:
    """Receives the media lines of one SIP dialog as one stream.

    Args:
        address: that it is told to send RTP to.
        networks: that RTP may come from, beside the caller and where it says.
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
        self._media: dict[int, _Media] = {}  # by the place in the offer
        self._num_channels = 0
        self._form = ("", 0)  # see Payloads
        self._audio: RtpStream | None = None
        self._strangers = 0

    @property
    def is_over(self) -> bool:
        """Whether its stream has ended."""
        return self._audio is not None and self._audio.is_over

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
        self._form = next(iter(chosen.values())).form
        spec = call_spec(
            format_of(self._form, self._num_channels),
            roles,
            call_id=self._call_id,
            details={"platform": "siprec", "session_id": metadata.session_id},
        )
        self._audio = audio = RtpStream(
            spec=replace(spec, team=self._siprec.team),
            form=self._form,
            call=self,
            route=ROUTE,
            idle_timeout_s=self._config.limits.idle_timeout_s,
            registry=self._registry,
            config=self._config,
        )
        try:
            await self._receive(offered, chosen)
            audio.begin()
        except BaseException:
            self._close_ports()
            raise
        async with audio.turn:
            await self._pause_or_resume(offered)
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
        assert self._audio is not None
        async with self._audio.turn:
            offered = parse_offer(description)
            chosen = chosen_of(
                offered, most=self._num_channels, received=self._media, form=self._form
            )
            # That all lines are given up is a pause.
            if not chosen and any(is_receivable(each) for each in offered):
                raise ProtocolError(ErrorCode.BAD_FORMAT, _nothing_received(offered))
            # What came before is read as it was told then.
            await self._audio.drain()
            await self._receive(offered, chosen)
            await self._pause_or_resume(offered)
            return self._answered(offered)

    async def _receive(self, offered: Sequence[Media], chosen: Mapping[int, Payloads]) -> None:
        """Open, change and close ports as the offer asks."""
        audio = self._audio
        assert audio is not None
        # New ones first: where there is none, all stays as it is.
        kept = {index: media for index, media in self._media.items() if index in chosen}
        taken = {media.line.channel for media in kept.values()}
        free = sorted(set(range(self._num_channels)) - taken)
        new: dict[int, _Media] = {}
        try:
            for index in sorted(chosen.keys() - kept.keys()):
                payloads, media = chosen[index], offered[index]
                transport, reports, port = await self._ports.open(
                    partial(self._datagram, index), partial(self._control, index)
                )
                event_type = media.event_type(payloads.codec.clock_hz)
                track = RtpTrack(payloads.codec, payloads.rate_hz, payloads.samples_of, event_type)
                line = RtpLine(free.pop(0), track, payloads)
                reporter = Reporter(secrets.randbits(32))
                new[index] = _Media(line, transport, reports, port, media, reporter)
                new[index].take(media)
        except BaseException:
            for each in new.values():
                each.close()
            raise
        for index in self._media.keys() - kept.keys():
            given_up = self._media.pop(index)
            given_up.close()
            audio.forget(given_up.line)
        for index, each in kept.items():
            line = each.line
            each.take(offered[index])
            line.payloads = chosen[index]
            event_type = each.offered.event_type(line.payloads.codec.clock_hz)
            line.track.change(line.payloads.codec, line.payloads.samples_of, event_type)
        self._media.update(new)
        audio.lines.extend(each.line for each in new.values())

    def _answered(self, offered: Sequence[Media]) -> bytes:
        self._version += 1
        accepted = [
            Accepted(media.line.payloads.codec, media.port, media.own_crypto, media.has_mux)
            if (media := self._media.get(index))
            else None
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
        assert self._audio is not None
        if any(offered[index].is_active for index in self._media):
            await self._audio.resume()
        else:
            await self._audio.pause()

    def _datagram(self, index: int, data: bytes, host: str, port: int) -> None:
        media, audio = self._media.get(index), self._audio
        if media is not None and media.has_mux and is_control(data):
            self._take_control(media, media.transport, data, (host, port))
            return
        if media is None or audio is None or audio.is_paused:
            return
        if not self._may_send(host, media.offered):
            self._strangers += 1
            return
        opened = data if media.srtp is None else media.srtp.unprotect(data)
        if opened is None:
            audio.unread += 1
        else:
            audio.put(media.line, opened)

    def _control(self, index: int, data: bytes, host: str, port: int) -> None:
        if (media := self._media.get(index)) is not None:
            self._take_control(media, media.reports, data, (host, port))

    def _take_control(
        self, media: _Media, port: asyncio.DatagramTransport, data: bytes, sender: tuple[str, int]
    ) -> None:
        """Take RTCP; answer it on the port that it came to, every few seconds at most."""
        if not self._may_send(sender[0], media.offered):
            return
        opened = data if media.srtp is None else media.srtp.unprotect_control(data)
        if opened is None:
            return
        now_s = asyncio.get_running_loop().time()
        report = media.reporter.answer(opened, media.line.track.reception, now_s)
        if report:
            sent = report if media.srtp is None else media.srtp.protect_control(report)
            port.sendto(sent, sender)
        # The call is ended by SIP; a line whose source is over takes another one at once.
        for source in ended_sources(opened):
            media.line.track.end_source(source)

    def _may_send(self, host: str, media: Media) -> bool:
        named = (plain_address(self._peer), plain_address(media.address))
        return plain_address(host) in named or is_within(host, self._networks)

    # -- ending -----------------------------------------------------------------------------------

    async def end(self, error: ProtocolError) -> None:
        assert self._audio is not None
        await self._audio.end(error)

    async def close(self, reason: CloseReason) -> None:
        """End the stream, because the other side ended the call."""
        assert self._audio is not None
        await self._audio.close(reason)

    def leave(self, error: ProtocolError | None) -> None:
        if error is not None:
            _log.warning("siprec_ended", code=error.code.value, reason=str(error))
        self._on_left()

    def over(self, stream: RunningStream, unread: int) -> None:
        self._close_ports()
        _log.info(
            "siprec_call_ended",
            stream_id=stream.stream_id,
            strangers=self._strangers,
            unread=unread,
        )

    def _close_ports(self) -> None:
        for media in self._media.values():
            media.close()
        self._media.clear()


def _nothing_received(offered: Sequence[Media]) -> str:
    if any(each.profile.startswith("RTP/S") or "/TLS/" in each.profile for each in offered):
        return (
            "got media lines with SRTP that cannot be received, expected a=crypto with"
            f" {' or '.join(SUITES)} and one key without a name"
            + ("" if can_secure() else ", and the extra srtp installed here")
        )
    names = sorted({codec.name for each in offered for codec in each.codecs})
    listed = ", ".join(names)[:200] or "none"
    expected = understood_names()
    return f"got no audio line with a codec that is understood ({listed}), expected {expected}"
