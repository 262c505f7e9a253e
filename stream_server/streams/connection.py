"""One WebSocket connection: reads the client's requests, sends results, and ends in order.

The reader hands every message to the stream and waits until the stream has room, so a client faster
than the engine is held back by TCP. The sender follows the stream's log of results and sends
heartbeats. Neither waits for ever: silence and results that are not read both end with
``idle_timeout_s``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

import structlog
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from ser_engine.schema import CloseReason
from stream_server.access import Session, Who
from stream_server.access.policy import team_of_stream
from stream_server.config import LimitsConfig
from stream_server.platforms.route import Admission
from stream_server.streams.handshakes import GuardedConnection
from stream_server.streams.registry import RunningStream, StreamRegistry
from stream_server.streams.runner import TrackReport
from stream_server.streams.socket import GOODBYE_S, ClientSocket
from stream_server.tracks.track import ReportsTracks, TrackStats
from stream_server.wire.dialect import HoldsAudio, Inbound, Say
from stream_server.wire.errors import CLOSE_ABNORMAL, CLOSE_NORMAL, ErrorCode, ProtocolError
from stream_server.wire.messages import Stop
from stream_server.wire.start import StreamSpec

_log = structlog.get_logger(__name__)

# The close reason of a stream that an error ends; others are ``protocol_error``.
_SENT_TOGETHER = 16
"""Results of a stream that are sent in one go, at most."""

_REASONS: dict[ErrorCode, CloseReason] = {
    ErrorCode.IDLE: "idle",
    ErrorCode.TOO_LONG: "too_long",
    ErrorCode.TOO_MANY_MESSAGES: "too_many_messages",
    ErrorCode.ENGINE_FAILED: "engine_failed",
    ErrorCode.INTERNAL: "internal",
    ErrorCode.SHUTTING_DOWN: "server_stopped",
    ErrorCode.OBJECTED: "objected",
}


def reason_of(error: ProtocolError | None) -> CloseReason:
    """Return the close reason: that of the error, or ``stopped`` if the client asked for it."""
    return "stopped" if error is None else _REASONS.get(error.code, "protocol_error")


def failure(stream_id: str) -> ProtocolError:
    """Log the exception that is being handled; return the error that the client is sent."""
    _log.exception("stream_failed", stream_id=stream_id)
    return ProtocolError(ErrorCode.INTERNAL, "the server failed while handling this stream")


def _team_of(who: Who, path_team: str, spec: StreamSpec) -> str:
    try:
        # The path first: it is the operator's, metadata may come from whoever calls.
        return team_of_stream(who, (path_team, spec.metadata.get("team", "")))
    except ValueError as error:
        raise ProtocolError(ErrorCode.FORBIDDEN, str(error)) from None


class Connection:
    """Runs one accepted connection from its first message to its close.

    Args:
        on_refused: takes the route and the error that kept a stream from beginning.
        refusal_delay_s: time before an unauthorized client is told so, however the check failed.
        path_team: the team that the path names, or "".
        session: whose cookie the client sent; None: it sent none that is valid.
    """

    def __init__(
        self,
        *,
        websocket: GuardedConnection,
        admission: Admission,
        registry: StreamRegistry,
        limits: LimitsConfig,
        heartbeat_s: float,
        on_refused: Callable[[str, ProtocolError], None],
        refusal_delay_s: float = 0.0,
        route: str = "/",
        path_team: str = "",
        address: str = "",
        session: Session | None = None,
    ) -> None:
        self.who: Who | None = None
        self._path_team = path_team
        self.address = address
        self.session = session
        self._socket = ClientSocket(websocket, admission.dialect, limits, route)
        websocket.on_flood = self._socket.request_end
        self._dialect = dialect = admission.dialect
        # Asked once: of a protocol that costs more than the counts.
        self._reports_tracks = dialect if isinstance(dialect, ReportsTracks) else None
        self._route = route
        self._authorize = admission.authorize
        self._close_frame = admission.close_frame
        self._registry = registry
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self._on_refused = on_refused
        self._refusal_delay_s = refusal_delay_s
        self._unread: list[Inbound] = []  # came with the request that began the stream
        self._serving: asyncio.Task[ProtocolError | None] | None = None
        self._released = asyncio.Event()

    async def run(self) -> None:
        async with self._socket:
            self._serving = asyncio.create_task(self._serve_client(), name="connection")
            try:
                await asyncio.wait([self._serving])
                # Only end() cancels it.
                cancelled = self._serving.cancelled()
                error = self._socket.end if cancelled else self._serving.result()
                self._released.set()
                if error is not None:
                    await self._refuse(error)
            finally:
                self._serving.cancel()
                await asyncio.wait([self._serving])
                self._released.set()

    async def end(self, error: ProtocolError) -> None:
        """End the connection for a reason outside of it; return when its stream is free.

        A message that is being handled gets ``drain_timeout_s``, as the last results do.
        """
        self._socket.request_end(error)
        try:
            async with asyncio.timeout(2 * self._limits.drain_timeout_s):
                await self._released.wait()
        except TimeoutError:
            # It hangs in the engine. The stream is released by what cancellation unwinds.
            if self._serving is not None:
                self._serving.cancel()
            await self._released.wait()

    async def _serve_client(self) -> ProtocolError | None:
        try:
            try:
                begun = await self._begin()
            except ProtocolError as error:
                self._on_refused(self._route, error)
                if error.code is ErrorCode.UNAUTHORIZED:
                    await asyncio.sleep(self._refusal_delay_s)
                return error
            if begun is None:
                await self._socket.close(CLOSE_NORMAL)
            else:
                await self._serve(*begun)
        except ProtocolError as error:
            return error
        except ConnectionClosed:
            pass
        return None

    # -- beginning --------------------------------------------------------------------------------

    async def _begin(self) -> tuple[RunningStream, int] | None:
        """Return the stream and the first result to send; None if the client leaves without one."""
        spec = self._dialect.start or await self._first_request()
        if spec is None:
            return None
        self.who = who = self._authorize(spec.token)
        stream = await self._registry.resume(spec, who, self)
        resumed = stream is not None
        if stream is None:
            spec = replace(spec, team=_team_of(who, self._path_team, spec))
            stream = self._registry.open(spec, who, self, route=self._route, address=self.address)
        try:
            await self._socket.send(stream.ready(self._limits, resumed=resumed))
        except BaseException:
            await self._leave(stream)
            raise
        # A new stream begins at 0, even if a resume was asked for.
        return stream, spec.resume.last_seq + 1 if spec.resume and resumed else 0

    async def _first_request(self) -> StreamSpec | None:
        """Return the stream that the client asks for; None if it leaves without one."""
        try:
            async with asyncio.timeout(self._limits.start_timeout_s):
                while True:
                    try:
                        requests = await self._socket.receive()
                    except ProtocolError as error:
                        # An error that a running stream survives is survived before it, too.
                        if error.ends_stream:
                            raise
                        await self._socket.send_error(error)
                        continue
                    for number, request in enumerate(requests, start=1):
                        match request:
                            case StreamSpec():
                                self._unread = requests[number:]
                                return request
                            case Say(messages=messages):
                                await self._socket.send_texts(messages)
                            case _:
                                assert isinstance(request, Stop), "a stream begins with its spec"
                                return None
        except TimeoutError:
            raise ProtocolError(
                ErrorCode.NOT_STARTED,
                f"got no {self._dialect.begins_with} within {self._limits.start_timeout_s:g} s",
            ) from None

    # -- running ----------------------------------------------------------------------------------

    async def _serve(self, stream: RunningStream, from_seq: int) -> None:
        report = TrackReport(stream.runner)
        sender = asyncio.create_task(self._send_results(stream, from_seq, report), name="sender")
        try:
            error = None if stream.runner.has_ended() else await self._read(stream)
            if tracks := self._tracks():
                report.end(tracks)
            if error is not None and error.code in (ErrorCode.REPLACED, ErrorCode.SLOW_CONSUMER):
                # The stream goes on without this connection.
                self._registry.detach(stream, self)
                raise error
            await self._take_held(stream)
            await self._registry.close(stream, reason_of(error))
            is_delivered = await sender
            if error is not None:
                raise error
            await self._socket.close(CLOSE_NORMAL)
            # 1006: the closing handshake did not complete, so the last results may be lost with it.
            is_lost = not is_delivered or self._socket.close_code == CLOSE_ABNORMAL
            if is_lost and self._dialect.can_resume:
                self._registry.detach(stream, self)
        except ConnectionClosedOK:
            # Closed with 1000 or 1001 (RFC 6455, section 7.4.1): this client does not come back.
            await self._take_held(stream)
            await self._registry.close(stream, "stopped")
            raise
        except BaseException:
            await self._leave(stream)
            raise
        finally:
            if tracks := self._tracks():
                report.end(tracks)
            # Also after errors: the sender may be waiting for results that will not come.
            sender.cancel()
            await asyncio.wait([sender])

    async def _leave(self, stream: RunningStream) -> None:
        """Keep the stream of a lost connection for a client that may resume it, or end it."""
        if self._dialect.can_resume:
            self._registry.detach(stream, self)
        else:
            await self._take_held(stream)
            await self._registry.close(stream, "client_lost")

    async def _take_held(self, stream: RunningStream) -> None:
        """Hand over what the dialect holds back for packets that will not come any more."""
        if not isinstance(self._dialect, HoldsAudio) or stream.runner.has_ended():
            return
        try:
            async with asyncio.timeout(self._limits.drain_timeout_s):
                for request in self._dialect.release():
                    await stream.runner.handle(request)
        except (ProtocolError, TimeoutError):
            pass  # The stream ends anyway.
        except Exception:
            failure(stream.stream_id)

    async def _read(self, stream: RunningStream) -> ProtocolError | None:
        """Hand the client's messages over until it stops; return the error that ended it, if any.

        Raises:
            ConnectionClosed: the client is gone.
        """
        try:
            return await self._read_on(stream)
        finally:
            self._socket.take_no_more()

    async def _read_on(self, stream: RunningStream) -> ProtocolError | None:
        at_once, inlet = stream.runner.take_at_once, stream.runner.session.inlet
        while self._socket.end is None:
            try:
                requests, self._unread = self._unread, []
                if not requests:
                    self._socket.take(at_once, inlet)
                    requests = await self._socket.receive()
                for left, request in enumerate(requests, start=1 - len(requests)):
                    # Not before what came with the same message.
                    self._socket.take(None if left else at_once, inlet)
                    if isinstance(request, Stop):
                        return None
                    if isinstance(request, Say):
                        await self._socket.send_texts(request.messages)
                    else:
                        await stream.runner.handle(request)
            except ProtocolError as error:
                if error.ends_stream:
                    return error
                await self._socket.send_error(error)
            except ConnectionClosed:
                raise
            except Exception:
                return failure(stream.stream_id)
        return self._socket.end

    async def _send_results(
        self, stream: RunningStream, from_seq: int, report: TrackReport
    ) -> bool:
        """Send results until the stream ends; return whether all of them were sent."""
        loop, kept, is_due = asyncio.get_running_loop(), stream.runner.results, False

        def beat() -> None:
            nonlocal is_due
            is_due = True
            kept.wake()

        # One timer a heartbeat: a timeout for each wait would be one a result.
        timer = loop.call_later(self._heartbeat_s, beat)
        try:
            while True:
                if is_due:
                    self._socket.check_idle()
                    await self._socket.send(stream.runner.heartbeat())
                    if tracks := self._tracks():
                        report.check(tracks)
                    is_due = False
                    timer = loop.call_later(self._heartbeat_s, beat)
                unread = await kept.read(from_seq)
                if not unread.results:
                    if kept.is_closed:
                        return True
                    continue
                # The log is bounded: a slow client loses the oldest, and a warning says so.
                if unread.num_dropped:
                    text = f"{unread.num_dropped} results were dropped: they were not read in time"
                    stream.runner.warn("results_dropped", text)
                # Together, but not so many that a client that is slow would not be noticed.
                for first in range(0, len(unread.results), _SENT_TOGETHER):
                    await self._socket.send(*unread.results[first : first + _SENT_TOGETHER])
                from_seq = unread.results[-1].seq + 1
        except ConnectionClosed:
            pass  # The reader gets it, too.
        except ProtocolError as error:
            self._socket.request_end(error)
        except Exception:
            self._socket.request_end(failure(stream.stream_id))
        finally:
            timer.cancel()
        return False

    def _tracks(self) -> TrackStats | None:
        return None if self._reports_tracks is None else self._reports_tracks.tracks

    # -- ending -----------------------------------------------------------------------------------

    async def _refuse(self, error: ProtocolError) -> None:
        with contextlib.suppress(ConnectionClosed, TimeoutError, ProtocolError):
            async with asyncio.timeout(2 * GOODBYE_S):
                await self._socket.send_error(error)
                await self._socket.close(*self._close_frame(error))
