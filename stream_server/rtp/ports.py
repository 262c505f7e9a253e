"""UDP ports that RTP is received on, and the addresses it may come from."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Callable, Sequence

from stream_server.streams.handshakes import Descriptors
from stream_server.wire.errors import ErrorCode, ProtocolError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Receive = Callable[[bytes, str, int], None]
"""Takes a datagram, and the address and the port that it comes from."""


class RtpPorts:
    """The UDP ports for RTP, one after the other: even ones, and the next for RTCP."""

    def __init__(
        self, host: str, first: int, last: int, descriptors: Descriptors, *, setting: str
    ) -> None:
        self._host = host
        self._ports = range(first + first % 2, last, 2)
        self._next = 0
        self._descriptors = descriptors
        self._setting = setting

    async def open(
        self, receive: Receive, control: Receive
    ) -> tuple[asyncio.DatagramTransport, asyncio.DatagramTransport, int]:
        """Open the next free port, and the one after it for RTCP (RFC 3550, section 11).

        Raises:
            ProtocolError: ``SERVER_FULL``: none is free.
        """
        for _ in self._ports:
            # In turn, so that late packets of a call that ended do not fall into another.
            port = self._ports[self._next % len(self._ports)]
            self._next += 1
            try:
                transport = await open_port(self._host, port, receive)
            except OSError:
                continue
            try:
                reports = await open_port(self._host, port + 1, control)
            except OSError:
                transport.close()
                continue
            socket = reports.get_extra_info("socket")
            if self._descriptors.over_for_calls(socket.fileno()) > 0:
                transport.close()
                reports.close()
                raise ProtocolError(
                    ErrorCode.SERVER_FULL,
                    "the server may open no more files; raise its limit (ulimit -n)",
                )
            return transport, reports, port
        raise ProtocolError(
            ErrorCode.SERVER_FULL, f"all ports of {self._setting} are in use; widen the range"
        )


async def open_port(host: str, port: int, receive: Receive) -> asyncio.DatagramTransport:
    """Receive datagrams on a port. Raises OSError: it cannot be had."""
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Receiver(receive), local_addr=(host, port)
    )
    return transport


class _Receiver(asyncio.DatagramProtocol):
    def __init__(self, receive: Receive) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._receive(data, addr[0], addr[1])


def plain_address(host: str) -> Address | None:
    try:
        # Link-local IPv6 addresses come with a zone: fe80::1%eth0 (RFC 4007).
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_within(host: str, networks: Sequence[Network]) -> bool:
    address = plain_address(host)
    return address is not None and any(address in each for each in networks)
