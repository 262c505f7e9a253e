"""One WebSocket connection: reads what the client asks for, sends it results, ends in order.

The reader hands every message to the stream and waits until the stream has room, so a client faster
than the engine is held back by TCP. The sender follows the stream's log of results and says how the
stream is doing. Neither waits for ever: silence and results that are not read both end with
``idle_timeout_s``.

What the end of a stream is called, and what its client is told where the server is to blame.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from stream_server.config import LimitsConfig
from stream_server.streams.registry import RunningStream, StreamRegistry
from stream_server.streams.runner import TrackReport
from stream_server.streams.socket import GOODBYE_S, Wire
from stream_server.tracks.stats import ReportsTracks, TrackStats
from stream_server.wire.dialect import Dialect, HoldsAudio, Inbound, Say
from stream_server.wire.errors import CLOSE_ABNORMAL, CLOSE_NORMAL, ErrorCode, ProtocolError
from stream_server.wire.messages import Stop
from stream_server.wire.results import CloseReason
from stream_server.wire.start import StreamSpec

_log = structlog.get_logger(__name__)

_REASONS: dict[ErrorCode, CloseReason] = {
    ErrorCode.IDLE: "idle",
    ErrorCode.TOO_LONG: "too_long",
    ErrorCode.TOO_MANY_MESSAGES: "too_many_messages",
    ErrorCode.ENGINE_FAILED: "engine_failed",
    ErrorCode.INTERNAL: "internal",
    ErrorCode.SHUTTING_DOWN: "server_stopped",
}
"""What the end of a stream is called where an error ends it; others are ``protocol_error``."""


def reason_of(error: ProtocolError | None) -> CloseReason:
    """Return why a stream ended: by an error, or because the client asked for it."""
    return "stopped" if error is None else _REASONS.get(error.code, "protocol_error")


def failure(stream_id: str) -> ProtocolError:
    """Log the exception that is being handled; return what the client is told instead."""
    _log.exception("stream_failed", stream_id=stream_id)
    return ProtocolError(ErrorCode.INTERNAL, "the server failed on this stream")


class Connection:
    """Runs one accepted connection from its first message to its close.

    Args:
        websocket: the connection.
        dialect: what it speaks.
        registry: where streams are begun and taken up again.
        limits: what it may do.
        heartbeat_s: time between heartbeats.
        authorize: takes the token of the first message, returns its name or raises ProtocolError.
        on_refused: told of the code of the error that kept a stream from beginning.
        close_frame: takes the error that ends the connection, returns close code and reason.
        refusal_delay_s: time before a client is told that it may not connect, however the check
            failed.
        entrance: first part of the path it came in at, for the log.
    """

    def __init__(
        self,
        websocket: ServerConnection,
        dialect: Dialect,
        registry: StreamRegistry,
        limits: LimitsConfig,
        heartbeat_s: float,
        authorize: Callable[[str], str],
        on_refused: Callable[[ErrorCode], None],
        close_frame: Callable[[ProtocolError], tuple[int, str]],
        refusal_delay_s: float = 0.0,
        entrance: str = "/",
    ) -> None:
        self._wire = Wire(websocket, dialect, limits, entrance)
        self._registry = registry
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self._authorize = authorize
        self._on_refused = on_refused
        self._close_frame = close_frame
        self._refusal_delay_s = refusal_delay_s
        self._unread: list[Inbound] = []  # came with the request that began the stream
        self._released = asyncio.Event()

    async def run(self) -> None:
        """Serve the connection until it is closed."""
        try:
            try:
                begun = await self._begin()
            except ProtocolError as error:
                self._on_refused(error.code)
                if error.code is ErrorCode.UNAUTHORIZED:
                    await asyncio.sleep(self._refusal_delay_s)
                raise
            if begun is None:
                await self._wire.close(CLOSE_NORMAL)
            else:
                await self._serve(*begun)
        except ProtocolError as error:
            self._released.set()
            await self._refuse(error)
        except ConnectionClosed:
            pass
        except asyncio.CancelledError:
            if not self._wire.was_interrupted():
                raise
            self._released.set()
            assert self._wire.end is not None, "there is no interruption without a reason"
            await self._refuse(self._wire.end)
        finally:
            self._released.set()

    async def end(self, error: ProtocolError) -> None:
        """End the connection for a reason outside of it; return when its stream is free.

        A message that is being dealt with gets ``drain_timeout_s``, as the last results do.
        """
        self._wire.interrupt(error)
        try:
            async with asyncio.timeout(2 * self._limits.drain_timeout_s):
                await self._released.wait()
        except TimeoutError:
            self._wire.cancel()
            await self._released.wait()

    # -- beginning --------------------------------------------------------------------------------

    async def _begin(self) -> tuple[RunningStream, int] | None:
        """Return the stream the client asks for, and the first result to send; None: it goes."""
        spec = self._wire.dialect.start or await self._first_request()
        if spec is None:
            return None
        token_name = self._authorize(spec.token)
        stream = await self._registry.resume(spec, token_name, self)
        resumed = stream is not None
        if stream is None:
            stream = self._registry.open(spec, token_name, self)
        try:
            await self._wire.send(stream.ready(self._limits, resumed=resumed))
        except BaseException:
            await self._leave(stream)
            raise
        return stream, spec.resume.last_seq + 1 if spec.resume and resumed else 0

    async def _first_request(self) -> StreamSpec | None:
        """Return what the client wants, or None where it goes without a stream."""
        try:
            async with asyncio.timeout(self._limits.start_timeout_s):
                while True:
                    try:
                        requests = await self._wire.receive()
                    except ProtocolError as error:
                        # What is merely ignored in a stream is so before it, too.
                        if error.ends_stream:
                            raise
                        await self._wire.tell(error)
                        continue
                    for number, request in enumerate(requests, start=1):
                        match request:
                            case StreamSpec():
                                self._unread = requests[number:]
                                return request
                            case Say(messages=messages):
                                await self._wire.say(messages)
                            case _:
                                assert isinstance(request, Stop), "a stream begins with its spec"
                                return None
        except TimeoutError:
            raise ProtocolError(
                ErrorCode.NOT_STARTED,
                f"got no {self._wire.dialect.begins_with} within"
                f" {self._limits.start_timeout_s:g} s",
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
            await self._wire.close(CLOSE_NORMAL)
            is_lost = not is_delivered or self._wire.close_code == CLOSE_ABNORMAL
            if is_lost and self._wire.dialect.can_resume:
                self._registry.detach(stream, self)
        except ConnectionClosedOK:
            # A client that says goodbye does not come back.
            await self._take_held(stream)
            await self._registry.close(stream, "stopped")
            raise
        except BaseException:
            await self._leave(stream)
            raise
        finally:
            if tracks := self._tracks():
                report.end(tracks)
            sender.cancel()
            await asyncio.wait([sender])

    async def _leave(self, stream: RunningStream) -> None:
        """Keep a stream whose connection is gone for a client that may come back; else end it."""
        if self._wire.dialect.can_resume:
            self._registry.detach(stream, self)
        else:
            await self._take_held(stream)
            await self._registry.close(stream, "client_lost")

    async def _take_held(self, stream: RunningStream) -> None:
        """Hand over what the dialect held back for audio that does not come any more."""
        if not isinstance(self._wire.dialect, HoldsAudio) or stream.runner.has_ended():
            return
        try:
            async with asyncio.timeout(self._limits.drain_timeout_s):
                for request in self._wire.dialect.release():
                    await stream.runner.handle(request)
        except (ProtocolError, TimeoutError):
            pass  # The stream ends anyway.
        except Exception:
            failure(stream.stream_id)

    async def _read(self, stream: RunningStream) -> ProtocolError | None:
        """Hand over what the client sends until it stops; return the error that ended it, if any.

        Raises:
            ConnectionClosed: the client is gone.
        """
        while self._wire.end is None:
            try:
                requests, self._unread = self._unread, []
                for request in requests or await self._wire.receive():
                    if isinstance(request, Stop):
                        return None
                    if isinstance(request, Say):
                        await self._wire.say(request.messages)
                    else:
                        await stream.runner.handle(request)
            except ProtocolError as error:
                if error.ends_stream:
                    return error
                await self._wire.tell(error)
            except ConnectionClosed:
                raise
            except Exception:
                return failure(stream.stream_id)
        return self._wire.end

    async def _send_results(
        self, stream: RunningStream, from_seq: int, report: TrackReport
    ) -> bool:
        """Send results until the stream ends; return whether all of them were sent."""
        loop, kept = asyncio.get_running_loop(), stream.runner.results
        beat_s = loop.time() + self._heartbeat_s
        try:
            while True:
                if loop.time() >= beat_s:
                    self._wire.check_idle()
                    await self._wire.send(stream.runner.heartbeat())
                    if tracks := self._tracks():
                        report.check(tracks)
                    beat_s = loop.time() + self._heartbeat_s
                try:
                    async with asyncio.timeout_at(beat_s):
                        unread = await kept.read(from_seq)
                except TimeoutError:
                    continue
                if not unread.results:
                    return True
                if unread.num_dropped:
                    stream.runner.warn_dropped(unread.num_dropped)
                for result in unread.results:
                    await self._wire.send(result)
                from_seq = unread.results[-1].seq + 1
        except ConnectionClosed:
            pass  # The reader hears of it too.
        except ProtocolError as error:
            self._wire.interrupt(error)
        except Exception:
            self._wire.interrupt(failure(stream.stream_id))
        return False

    def _tracks(self) -> TrackStats | None:
        """Return what became of the packets of the call's tracks, where the dialect has them."""
        dialect = self._wire.dialect
        return dialect.tracks if isinstance(dialect, ReportsTracks) else None

    # -- ending -----------------------------------------------------------------------------------

    async def _refuse(self, error: ProtocolError) -> None:
        """Tell the client why, and close."""
        with contextlib.suppress(ConnectionClosed, TimeoutError, ProtocolError):
            async with asyncio.timeout(2 * GOODBYE_S):
                await self._wire.tell(error)
                await self._wire.close(*self._close_frame(error))
