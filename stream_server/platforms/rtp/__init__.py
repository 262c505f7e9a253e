"""Plain RTP: exchanges that copy a call's audio to an address, and tell nothing else.

Asterisk's ``externalMedia`` does so, and FreeSWITCH's ``esf_page_group``. There is no signalling: a
stream begins with packets, and ends when they do.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from stream_server.platforms.platform import (
    Platform,
    TelephonySettings,
    check_networks,
    check_team,
)
from stream_server.rtp import EVENT, RtpCodec, is_understood, parse_codec

MAX_CALL_PORTS = 2000
"""Ports that ``call_ports`` may span; every second one is opened."""


@dataclass(frozen=True, slots=True)
class RtpConfig:
    """Plain RTP without signalling or authentication, e.g. of Asterisk's externalMedia."""

    port: Annotated[int, Range(-1, 65_535)] = -1
    """UDP port on which every sender is a stream of one channel. -1: none; 0: any free one."""
    call_ports: tuple[int, ...] = ()
    """First and last of the UDP ports for both sides of a call, from an even one, e.g. [40000,
    40399]: 40000 is one side of the first call and 40002 the other, 40004 and 40006 are those of
    the second. []: none."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses and networks that may send."""
    formats: tuple[str, ...] = ("118 L16/16000", "107 opus/48000/2", "101 telephone-event/8000")
    """What payload types mean, beside 0 (PCMU), 8 (PCMA) and 9 (G722), as in SDP's ``rtpmap``. The
    default is what Asterisk has."""
    sources: Literal["address", "ssrc"] = "address"
    """What tells senders on ``port`` apart: their address and port, or the SSRC, too."""
    role: str = ""
    """Role of the streams on ``port``; "": the first of ``telephony.roles``. Give ``mixed`` where
    both sides are in one."""
    end_after_s: Annotated[float, Range(0.5, 3600)] = 5.0
    """Time without a packet after which a stream ends."""
    max_streams: Annotated[int, Range(1, 100_000)] = 500
    """Streams at a time; ``limits.max_streams`` counts, too."""
    team: str = ""
    """Team that its streams belong to; "": none, and only who sees all teams sees them."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony.rtp")
        check_team("telephony.rtp.team", self.team)
        check_networks("telephony.rtp.allow", self.allow)
        for text in self.formats:
            codec = parse_codec(text)
            if codec is None or not (codec.name == EVENT or is_understood(codec)):
                raise ConfigError(
                    f"got '{text}' in telephony.rtp.formats, expected a payload type and PCMU/8000,"
                    " PCMA/8000, L16/RATE of 8000 to 48000, G722/8000, opus/48000/2 or"
                    " telephone-event/RATE, e.g. '96 L16/16000'"
                )
        ports = self.call_ports
        if ports and not (
            len(ports) == 2
            and 1024 <= ports[0] <= ports[1] - 2 <= 65_533
            and ports[0] % 2 == 0
            and ports[1] - ports[0] < MAX_CALL_PORTS
        ):
            raise ConfigError(
                f"got telephony.rtp.call_ports {list(ports)}, expected two ports from 1024 to"
                f" 65535, the first even, the last 2 to {MAX_CALL_PORTS - 1} above it"
            )
        if self.port >= 0 and ports and ports[0] <= self.port <= ports[1]:
            raise ConfigError(
                f"got telephony.rtp.port {self.port} within telephony.rtp.call_ports {list(ports)},"
                " expected one outside"
            )

    @property
    def codecs(self) -> dict[int, RtpCodec]:
        """What ``formats`` says, by payload type."""
        parsed = (parse_codec(text) for text in self.formats)
        return {codec.payload_type: codec for codec in parsed if codec is not None}


@dataclass(frozen=True)
class RtpSettings(TelephonySettings):
    """Settings of plain RTP."""

    rtp: RtpConfig = field(default_factory=RtpConfig)


PLATFORM = Platform({}, RtpSettings, has_ports=True)
