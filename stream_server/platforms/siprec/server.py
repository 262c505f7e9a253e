"""The SIP port of the recording server: UDP and TCP around :class:`UserAgent`, and its calls.

SIP has no token here, so the settings list the addresses that may begin calls; what comes from
others is dropped without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from collections import OrderedDict
from collections.abc import Coroutine
from functools import partial
from itertools import count
from typing import Any

import structlog

from stream_server.access.tls import HANDSHAKE_S, Tls
from stream_server.platforms.siprec import SiprecSettings
from stream_server.platforms.siprec.agent import (
    Dialog,
    Ended,
    Ignored,
    Offered,
    Peer,
    UserAgent,
    refused,
)
from stream_server.platforms.siprec.call import ROUTE, RecordingCall
from stream_server.platforms.siprec.messages import StreamParser, parse_message
from stream_server.rtp.ports import RtpPorts, is_within, open_port
from stream_server.streams.connection import failure
from stream_server.streams.listeners import ListenerContext
from stream_server.streams.socket import MessageRate
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)

_READ_BYTES = 65_536
_MAX_CONNECTIONS = 128
"""TCP connections at a time; a client needs one for all its calls."""
_MAX_PINGS = 8
"""Pings of one read that are answered."""
_QUIET_S = 900.0
"""A connection on which nothing comes for so long is closed; clients ping, or open another."""
_MAX_UNSENT_BYTES = 1 << 20
"""Answers that wait for a client that does not read them, before its connection is closed."""
_MAX_HOSTS = 256
"""Addresses whose messages are counted at a time."""
_GOODBYE_S = 2.0
"""Longest wait for the answers to the last BYEs."""


class SiprecServer:
    """A :class:`~stream_server.streams.listeners.Listener` that takes recording sessions."""

    name = ROUTE
    is_optional = False

    def __init__(self, context: ListenerContext) -> None:
        self._context = context
        self._config = config = context.config
        self._siprec = config.telephony.of(SiprecSettings).siprec
        self._networks = [ipaddress.ip_network(each, strict=False) for each in self._siprec.allow]
        # It has no tokens: nobody beyond this machine even reaches it before the
        # settings name an address there.
        is_local = all(network.is_loopback for network in self._networks)
        self._host = "127.0.0.1" if is_local else config.listen.host
        self._ports = RtpPorts(
            self._host,
            *self._siprec.rtp_ports,
            context.descriptors,
            setting="telephony.siprec.rtp_ports",
        )
        self._agent = UserAgent(self._contact)
        self._calls: dict[Dialog, RecordingCall] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._rates: OrderedDict[str, MessageRate] = OrderedDict()
        self._connections: dict[int, asyncio.StreamWriter] = {}
        self._numbers = count(1)
        self.setting = "telephony.siprec.port"
        self._tcp: asyncio.Server | None = None
        self._secure: asyncio.Server | None = None
        self._tls: Tls | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._draining = False

    @property
    def port(self) -> int:
        if self.setting.endswith("tls_port"):
            return self.tls_port
        if self._tcp is None:
            return self._siprec.port
        return _port_of(self._tcp)

    @property
    def tls_port(self) -> int:
        return self._siprec.tls_port if self._secure is None else _port_of(self._secure)

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be had.
            ConfigError: the certificate cannot be used.
        """
        siprec = self._siprec
        if siprec.tls_port >= 0:
            self.setting = "telephony.siprec.tls_port"
            self._tls = Tls(
                siprec.tls_certificate,
                siprec.tls_key,
                settings="telephony.siprec",
                clients=siprec.tls_clients,
                protocol="sip",
            )
            self._secure = await asyncio.start_server(
                partial(self._serve_connection, is_secure=True),
                self._host,
                siprec.tls_port,
                limit=_READ_BYTES,
                ssl=self._tls.context,
                ssl_handshake_timeout=HANDSHAKE_S,
            )
            self._following = asyncio.create_task(self._tls.follow(), name="siprec certificate")
        if siprec.port >= 0:
            self.setting = "telephony.siprec.port"
            try:
                await self._listen_plainly()
            except BaseException:
                await self._stop_tls()
                raise

    async def _listen_plainly(self) -> None:
        server = await asyncio.start_server(
            self._serve_connection, self._host, self._siprec.port, limit=_READ_BYTES
        )
        try:
            self._udp = await open_port(self._host, _port_of(server), self._datagram)
        except BaseException:
            server.close()
            raise
        self._tcp = server

    async def aclose(self) -> None:
        self._draining = True
        if self._tcp is None and self._secure is None:
            return
        goodbye = ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(3 * self._config.limits.drain_timeout_s):
                await asyncio.gather(*(call.end(goodbye) for call in list(self._calls.values())))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_GOODBYE_S):
                while self._agent.num_asked:  # noqa: ASYNC110 - datagrams answer it
                    await asyncio.sleep(0.02)
        if self._tcp is not None:
            self._tcp.close()
        if self._udp is not None:
            self._udp.close()
        if self._timer is not None:
            self._timer.cancel()
        for writer in list(self._connections.values()):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        if self._tcp is not None:
            await self._tcp.wait_closed()
        await self._stop_tls()

    async def _stop_tls(self) -> None:
        secure, self._secure = self._secure, None
        if secure is None:
            return
        secure.close()
        self._following.cancel()
        await asyncio.wait([self._following])
        await secure.wait_closed()

    # -- what comes -------------------------------------------------------------------------------

    def _datagram(self, data: bytes, host: str, port: int) -> None:
        # Empty lines keep a NAT open (RFC 3261, section 7.5).
        if self._admit(host) and data.strip(b"\r\n\x00"):
            self._message(data, Peer(host, port))

    def _admit(self, host: str) -> bool:
        """Return whether messages are taken from there; count and log it if they are not."""
        if not is_within(host, self._networks):
            text = "the address may not begin calls; add it to the setting telephony.siprec.allow"
            self._refused(ProtocolError(ErrorCode.UNAUTHORIZED, text))
            return False
        now_s = asyncio.get_running_loop().time()
        rate = self._rates.get(host)
        if rate is None:
            rate = MessageRate(self._config.limits.max_messages_per_s, now_s)
            self._rates[host] = rate
            if len(self._rates) > _MAX_HOSTS:
                self._rates.popitem(last=False)
        try:
            rate.take(1, now_s)
        except ProtocolError as error:
            self._refused(error)
            return False
        return True

    def _message(self, data: bytes, peer: Peer) -> None:
        try:
            message = parse_message(data)
        except ProtocolError as error:
            self._refused(error)
            return
        self._agent.receive(message, peer, asyncio.get_running_loop().time())
        self._go_on()

    async def _serve_connection(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        is_secure: bool = False,
    ) -> None:
        name = writer.get_extra_info("peername") or ("", 0)
        host, port = str(name[0]), int(name[1])
        if len(self._connections) >= _MAX_CONNECTIONS or self._draining or not self._admit(host):
            writer.transport.abort()
            return
        number, parser = next(self._numbers), StreamParser()
        self._connections[number] = writer
        try:
            while True:
                async with asyncio.timeout(_QUIET_S):
                    data = await reader.read(_READ_BYTES)
                if not data:
                    break
                num_pings = 0
                for each in parser.receive(data):
                    if not each:
                        num_pings += 1
                        if num_pings <= _MAX_PINGS:
                            writer.write(b"\r\n")
                    elif self._admit(host):
                        self._message(each, Peer(host, port, number, is_secure))
                await writer.drain()
        except ProtocolError as error:
            self._refused(error)
        except (OSError, TimeoutError):
            pass  # It is lost, or nobody uses it.
        finally:
            del self._connections[number]
            writer.close()

    # -- what follows -----------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Send what has to be sent, do what has to be done, and wait for what is due."""
        for event in self._agent.take_events():
            match event:
                case Offered():
                    self._begin(self._answer(event))
                case Ended(dialog=dialog, reason=reason):
                    call = self._calls.pop(dialog, None)
                    if call is not None and reason != "left":
                        self._begin(call.close("stopped" if reason == "bye" else "client_lost"))
                case Ignored(error=error):
                    self._refused(error)
        for peer, data in self._agent.take_sends():
            self._send(peer, data)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if (due_s := self._agent.due_s) is not None:
            self._timer = asyncio.get_running_loop().call_at(due_s, self._wake)

    def _wake(self) -> None:
        self._timer = None
        # call_at() may be early by the resolution of its clock.
        self._agent.wake(max(asyncio.get_running_loop().time(), self._agent.due_s or 0.0))
        self._go_on()

    def _send(self, peer: Peer, data: bytes) -> None:
        if not peer.connection:
            if self._udp is not None and not self._udp.is_closing():
                self._udp.sendto(data, (peer.host, peer.port))
            return
        # Of a connection that is closed nothing is sent: this side opens none.
        writer = self._connections.get(peer.connection)
        if writer is not None and not writer.is_closing():
            writer.write(data)
            if writer.transport.get_write_buffer_size() > _MAX_UNSENT_BYTES:
                writer.transport.abort()

    async def _answer(self, offered: Offered) -> None:
        dialog, loop = offered.dialog, asyncio.get_running_loop()
        try:
            if offered.is_new:
                body = await self._open(offered)
            else:
                call = self._calls.get(dialog)
                if call is None:
                    raise ProtocolError(ErrorCode.INTERNAL, "the call is being ended")
                body = await call.change(offered.request)
        except ProtocolError as error:
            self._refused(error)
            self._refuse(dialog, error)
        except Exception:
            self._refuse(dialog, failure(""))
        else:
            self._agent.accept(dialog, body, loop.time())
        self._go_on()

    async def _open(self, offered: Offered) -> bytes:
        dialog = offered.dialog
        if self._draining:
            raise ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        if not self._context.is_ready():
            text = "the model is being loaded"
            raise ProtocolError(ErrorCode.NOT_READY, text, retry_after_s=2.0)
        self._context.registry.check_capacity("")

        def leave() -> None:
            self._agent.leave(dialog, asyncio.get_running_loop().time())
            self._calls.pop(dialog, None)
            self._go_on()

        call = RecordingCall(
            call_id=dialog.call_id,
            peer=dialog.peer.host,
            address=self._address(dialog.peer),
            ports=self._ports,
            networks=self._networks,
            registry=self._context.registry,
            config=self._config,
            on_left=leave,
        )
        body = await call.open(offered.request)
        if dialog.state == "over":
            # Cancelled meanwhile.
            await call.close("client_lost")
        elif call.is_over:
            raise ProtocolError(
                ErrorCode.ENGINE_FAILED, "the stream ended at its start; see the server's log"
            )
        else:
            self._calls[dialog] = call
        return body

    def _refuse(self, dialog: Dialog, error: ProtocolError) -> None:
        status, reason = refused(error)
        self._agent.refuse(
            dialog,
            status,
            reason,
            asyncio.get_running_loop().time(),
            warning=str(error),
            retry_after_s=error.retry_after_s,
        )

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work, name="siprec")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _refused(self, error: ProtocolError) -> None:
        self._context.on_refused(self.name, error)

    def _contact(self, peer: Peer) -> str:
        host = self._address(peer)
        host = f"[{host}]" if ":" in host else host
        if peer.is_secure:
            return f"<sip:{host}:{self.tls_port};transport=tls>"
        transport = ";transport=tcp" if peer.connection else ""
        return f"<sip:{host}:{self.port}{transport}>"

    def _address(self, peer: Peer) -> str:
        """Return the address of this machine that a peer can reach."""
        if self._siprec.address:
            return self._siprec.address
        family = socket.AF_INET6 if ":" in peer.host else socket.AF_INET
        # Nothing is sent: the system only looks up the way there.
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((peer.host, peer.port or 5060))
            return str(probe.getsockname()[0])
        return self._host


def listen(context: ListenerContext) -> SiprecServer | None:
    """See :data:`~stream_server.streams.listeners.Listen`."""
    siprec = context.config.telephony.of(SiprecSettings).siprec
    is_off = siprec.port < 0 and siprec.tls_port < 0
    return None if is_off else SiprecServer(context)


def _port_of(server: asyncio.Server) -> int:
    port: int = server.sockets[0].getsockname()[1]
    return port
