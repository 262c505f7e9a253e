"""A real SIPREC port on loopback, and what a session border controller is to it."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Self

from stream_server.config import ServerConfig, StreamsConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.siprec import SiprecConfig
from stream_server.platforms.siprec.messages import Request, Response, parse_message
from stream_server.platforms.siprec.server import SiprecServer
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.listeners import ListenerContext
from stream_server.wire.results import StreamClosed
from tests.support.live_lab import Lab

BOTH_ANALYSED = ServerConfig(streams=StreamsConfig(analyse_roles=("customer", "agent")))
"""Settings under which both sides of a call are told of."""

METADATA = """<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns="urn:ietf:params:xml:ns:recording:1">
 <datamode>complete</datamode>
 <session session_id="hVpd7YQgRW2nD22h7q60JQ=="/>
 <participant participant_id="srfBElmCRp2QB23b7Mpk0w==">
  <nameID aor="sip:+4930123456@carrier.example.net"><name xml:lang="de">Kundin</name></nameID>
 </participant>
 <participant participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
  <nameID aor="sip:1001@pbx.example.org"/>
 </participant>
 <stream stream_id="UAAMm5GRQKSCMVvLyl4rFw==" session_id="hVpd7YQgRW2nD22h7q60JQ==">
  <label>1</label>
 </stream>
 <stream stream_id="8zc6e0lYTlWIINA6GR+3ag==" session_id="hVpd7YQgRW2nD22h7q60JQ==">
  <label>2</label>
 </stream>
 <participantstreamassoc participant_id="srfBElmCRp2QB23b7Mpk0w==">
  <send>UAAMm5GRQKSCMVvLyl4rFw==</send><recv>8zc6e0lYTlWIINA6GR+3ag==</recv>
 </participantstreamassoc>
 <participantstreamassoc participant_id="zSfPoSvdSDCmU3A3TRDxAw==">
  <send>8zc6e0lYTlWIINA6GR+3ag==</send><recv>UAAMm5GRQKSCMVvLyl4rFw==</recv>
 </participantstreamassoc>
</recording>
"""
"""After the example of RFC 7865, section 8.2."""


def offer(
    lines: Iterable[str] = ("1", "2"),
    *,
    codecs: str = "0 8 101",
    direction: str = "sendonly",
    profile: str = "RTP/AVP",
    rtpmap: str = "96 L16/16000",
) -> str:
    """Return a session description with an audio line for each label."""
    media = [
        f"m=audio {9000 + 2 * at} {profile} {codecs}\r\na=label:{label}\r\n"
        f"a=rtpmap:101 telephone-event/8000\r\na=rtpmap:{rtpmap}\r\na={direction}\r\n"
        for at, label in enumerate(lines)
    ]
    return (
        "v=0\r\no=SRC 2890844526 2890844526 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\n"
        "t=0 0\r\n" + "".join(media)
    )


def multipart(description: str, metadata: str = METADATA) -> tuple[str, bytes]:
    """Return the type and the body of an INVITE."""
    body = (
        f"--foobar\r\nContent-Type: application/sdp\r\n\r\n{description}\r\n"
        "--foobar\r\nContent-Type: application/rs-metadata+xml\r\n"
        f"Content-Disposition: recording-session\r\n\r\n{metadata}\r\n--foobar--\r\n"
    )
    return "multipart/mixed;boundary=foobar", body.encode()


def request(
    method: str,
    *,
    cseq: int = 1,
    branch: str = "1",
    to_tag: str = "",
    call_id: str = "a84b4c76e66710@sbc.example.net",
    headers: Iterable[str] = (),
    kind: str = "",
    body: bytes = b"",
) -> bytes:
    """Return a request of a session border controller."""
    lines = [
        f"{method} sip:srs@127.0.0.1 SIP/2.0",
        f"Via: SIP/2.0/UDP 127.0.0.1:5070;branch=z9hG4bK{branch};rport",
        "From: <sip:src@sbc.example.net>;tag=35e195d2-947d-4585-946f-09839247",
        "To: <sip:srs@127.0.0.1>" + (f";tag={to_tag}" if to_tag else ""),
        f"Call-ID: {call_id}",
        f"CSeq: {cseq} {method}",
        "Max-Forwards: 70",
        "Contact: <sip:src@127.0.0.1:5070>;+sip.src",
        *headers,
        *([f"Content-Type: {kind}"] if kind else []),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join((*lines, "", "")).encode() + body


def invite(description: str | None = None, metadata: str = METADATA, **fields: Any) -> bytes:
    kind, body = multipart(offer() if description is None else description, metadata)
    return request("INVITE", headers=["Require: siprec"], kind=kind, body=body, **fields)


def rtp(
    number: int,
    timestamp: int,
    payload: bytes,
    *,
    payload_type: int = 0,
    source: int = 0x5EC0,
) -> bytes:
    """Return a packet."""
    head = struct.pack(
        ">BBHII", 0x80, payload_type, number & 0xFFFF, timestamp & 0xFFFFFFFF, source
    )
    return head + payload


def event(key: int, duration: int, *, is_end: bool = False) -> bytes:
    """Return the payload of an event."""
    return struct.pack(">BBH", key, (0x80 if is_end else 0) | 10, duration)


@dataclass
class Client:
    """A recording client over UDP.

    Attributes:
        port: of the server.
        rtp_ports: of its answer.
        received: all that came, in order.
    """

    port: int
    rtp_ports: list[int] = field(default_factory=list)
    received: list[Request | Response] = field(default_factory=list)
    to_tag: str = ""
    cseq: int = 1
    call_id: str = "a84b4c76e66710@sbc.example.net"

    async def __aenter__(self) -> Self:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(("127.0.0.1", 0))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        self._socket.sendto(data, ("127.0.0.1", self.port))

    async def receive(self) -> Request | Response:
        data = await asyncio.get_running_loop().sock_recv(self._socket, 65_536)
        message = parse_message(data)
        self.received.append(message)
        return message

    async def response(self) -> Response:
        """Return the next final response."""
        while True:
            message = await self.receive()
            if isinstance(message, Response) and message.status >= 200:
                return message

    async def invite(self, description: str | None = None, **fields: Any) -> Response:
        """Begin a call, or offer anew within it, and confirm the answer."""
        self.send(
            invite(
                description,
                cseq=self.cseq,
                branch=f"invite{self.cseq}{self.call_id}",
                to_tag=self.to_tag,
                call_id=self.call_id,
                **fields,
            )
        )
        answer = await self.response()
        is_accepted = answer.status == 200
        self.to_tag = answer.tag("to") if is_accepted else self.to_tag
        branch = f"ack{self.cseq}" if is_accepted else f"invite{self.cseq}{self.call_id}"
        self._request("ACK", branch, answer.tag("to"))
        if is_accepted:
            ports = re.findall(rb"^m=audio (\d+)", answer.body, re.MULTILINE)
            self.rtp_ports = [int(each) for each in ports]
        self.cseq += 1
        return answer

    async def bye(self) -> Response:
        self._request("BYE", f"bye{self.cseq}{self.call_id}", self.to_tag)
        self.cseq += 1
        return await self.response()

    def _request(self, method: str, branch: str, to_tag: str) -> None:
        self.send(
            request(method, cseq=self.cseq, branch=branch, to_tag=to_tag, call_id=self.call_id)
        )

    def send_rtp(self, line: int, packet: bytes) -> None:
        self._socket.sendto(packet, ("127.0.0.1", self.rtp_ports[line]))


class SiprecLab:
    """The port beside the gateway of a :class:`Lab`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.server = SiprecServer(
            ListenerContext(
                registry=lab.registry,
                access=lab.access,
                config=lab.config,
                is_ready=lambda: lab.engine.is_ready,
                on_refused=lab.refuse,
                descriptors=Descriptors(1 << 30),
            )
        )

    @property
    def reasons(self) -> list[str]:
        """Why the streams that ended did."""
        return [each.reason for each in self.lab.published if isinstance(each, StreamClosed)]

    def client(self, **fields: Any) -> Client:
        return Client(self.server.port, **fields)

    async def until_ended(self, count: int = 1) -> None:
        """Wait for the end of so many streams."""
        while len(self.reasons) < count:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)


def with_siprec(config: ServerConfig, **settings: Any) -> ServerConfig:
    """Return the settings with any free port for SIP, and ports for RTP of this process."""
    first = 20_000 + os.getpid() % 400 * 100
    siprec = SiprecConfig(**{"port": 0, "rtp_ports": (first, first + 99), **settings})
    return replace(config, telephony=TelephonyConfig(siprec=siprec))


@asynccontextmanager
async def beside(lab: Lab) -> AsyncIterator[SiprecLab]:
    """Run the port beside a gateway."""
    siprec = SiprecLab(lab)
    await siprec.server.start()
    try:
        yield siprec
    finally:
        await siprec.server.aclose()
