"""SIPREC: session border controllers and telephone exchanges that record a call elsewhere.

Their recording client sends this server a SIP INVITE that describes the call (RFC 7866), and then
the call's audio as RTP, a media line for each side.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from typing import Annotated

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from stream_server.platforms.platform import (
    Platform,
    TelephonySettings,
    check_networks,
    check_team,
)


@dataclass(frozen=True, slots=True)
class SiprecConfig:
    """SIPREC: SIP, and RTP or SRTP."""

    port: Annotated[int, Range(-1, 65_535)] = -1
    """Port for SIP over UDP and TCP; 5060 is usual. -1: none; 0: any free one."""
    tls_port: Annotated[int, Range(-1, 65_535)] = -1
    """Port for SIP over TLS; 5061 is usual. -1: none; 0: any free one. It needs a certificate."""
    tls_certificate: str = ""
    """PEM file of the certificate for SIP, with those it was signed with after it; read again when
    it changes."""
    tls_key: str = ""
    """PEM file of its key, without a password."""
    tls_clients: str = ""
    """PEM file of those who sign the certificates that callers must have; "": callers need none."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses and networks that may begin calls. Their RTP may also come from the address that
    they announce for it."""
    address: str = ""
    """IP address to which callers should send RTP, if it is not an address of this machine. "": the
    local address of the connection to the caller."""
    rtp_ports: tuple[int, int] = (30_000, 30_999)
    """First and last UDP port for RTP; each side of a call takes an even one, and the next for
    RTCP."""
    agents: tuple[str, ...] = ()
    """Addresses or names of the people who work here, with ``*`` for any text, e.g.
    ``*@pbx.example.org``: their side has the second of ``telephony.roles``, the other side the
    first. If no side matches, the first media line has the first role."""
    team: str = ""
    """Team that its calls belong to; "": none, and only who sees all teams sees them."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony.siprec")
        check_team("telephony.siprec.team", self.team)
        check_networks("telephony.siprec.allow", self.allow)
        if self.tls_port >= 0 and not (self.tls_certificate and self.tls_key):
            raise ConfigError(
                f"got telephony.siprec.tls_port {self.tls_port} without a certificate, expected"
                " telephony.siprec.tls_certificate and telephony.siprec.tls_key"
            )
        first, last = self.rtp_ports
        if not 1024 <= first < last <= 65_535:
            raise ConfigError(
                f"got telephony.siprec.rtp_ports {[first, last]}, expected two ports from 1024 to"
                " 65535, the first below the last"
            )
        if self.address:
            try:
                ipaddress.ip_address(self.address)
            except ValueError:
                raise ConfigError(
                    f"got telephony.siprec.address '{self.address}', expected an IP address"
                ) from None


@dataclass(frozen=True)
class SiprecSettings(TelephonySettings):
    """Settings of SIPREC."""

    siprec: SiprecConfig = field(default_factory=SiprecConfig)


PLATFORM = Platform({}, SiprecSettings, has_ports=True)
