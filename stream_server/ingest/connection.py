"""One WebSocket connection: reads what the client asks for, sends it results, ends in order.

The reader hands every message to the stream and waits until the stream has room, so a client faster
than the engine is held back by TCP. The sender follows the stream's log of results and says how the
stream is doing. Neither waits for ever: silence and results that are not read both end with
``idle_timeout_s``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK

from stream_server.config import LimitsConfig
from stream_server.ingest.endings import failure, reason_of
from stream_server.ingest.message_rate import MessageRate
from stream_server.live.registry import RunningStream, StreamRegistry
from stream_server.live.track_report import TrackReport
from stream_server.protocol.client_messages import Stop
from stream_server.protocol.dialect import Dialect, HoldsAudio, Inbound, Say
from stream_server.protocol.errors import CLOSE_ABNORMAL, CLOSE_NORMAL, ErrorCode, ProtocolError
from stream_server.protocol.server_messages import ServerMessage, error_message
from stream_server.protocol.stream_spec import StreamSpec
from stream_server.protocol.tracks.stats import ReportsTracks, TrackStats

__all__ = ["Connection"]

_log = structlog.get_logger(__name__)

_COUNTED_TOGETHER = 16
"""Messages after which their rate is looked at: there are fifty a second of every client."""

_GOODBYE_S = 5.0
"""Longest wait for a client to take the error it is closed with, or to close by itself."""


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
        now_s = asyncio.get_running_loop().time()
        self._websocket = websocket
        self._dialect = dialect
        self._registry = registry
        self._limits = limits
        self._heartbeat_s = heartbeat_s
        self._authorize = authorize
        self._on_refused = on_refused
        self._close_frame = close_frame
        self._refusal_delay_s = refusal_delay_s
        self._entrance = entrance
        self._has_logged_bad = False
        self._rate = MessageRate(limits.max_messages_per_s, now_s)
        self._num_messages = 0
        self._heard_of = (0, now_s)  # messages by then, when they last became more
        self._task = asyncio.current_task()
        self._is_receiving = False
        self._unread: list[Inbound] = []  # came with the request that began the stream
        self._end: ProtocolError | None = None
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
                await self._close(CLOSE_NORMAL)
            else:
                await self._serve(*begun)
        except ProtocolError as error:
            self._released.set()
            await self._refuse(error)
        except ConnectionClosed:
            pass
        except asyncio.CancelledError:
            if self._end is None or self._task is None:
                raise
            self._task.uncancel()
            self._released.set()
            await self._refuse(self._end)
        finally:
            self._released.set()

    async def end(self, error: ProtocolError) -> None:
        """End the connection for a reason outside of it; return when its stream is free.

        A message that is being dealt with gets ``drain_timeout_s``, as the last results do.
        """
        self._interrupt(error)
        try:
            async with asyncio.timeout(2 * self._limits.drain_timeout_s):
                await self._released.wait()
        except TimeoutError:
            if self._task is not None:
                self._task.cancel()
            await self._released.wait()

    # -- beginning --------------------------------------------------------------------------------

    async def _begin(self) -> tuple[RunningStream, int] | None:
        """Return the stream the client asks for, and the first result to send; None: it goes."""
        spec = self._dialect.start or await self._first_request()
        if spec is None:
            return None
        token_name = self._authorize(spec.token)
        stream = await self._registry.resume(spec, token_name, self)
        resumed = stream is not None
        if stream is None:
            stream = self._registry.open(spec, token_name, self)
        try:
            await self._send(stream.ready(self._limits, resumed=resumed))
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
                        requests = self._dialect.receive(await self._next_message())
                    except ProtocolError as error:
                        # What is merely ignored in a stream is so before it, too.
                        if error.ends_stream:
                            raise
                        await self._tell(error)
                        continue
                    for number, request in enumerate(requests, start=1):
                        match request:
                            case StreamSpec():
                                self._unread = requests[number:]
                                return request
                            case Say(messages=messages):
                                await self._say(messages)
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
            await self._close(CLOSE_NORMAL)
            is_lost = not is_delivered or self._websocket.close_code == CLOSE_ABNORMAL
            if is_lost and self._dialect.can_resume:
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
        if self._dialect.can_resume:
            self._registry.detach(stream, self)
        else:
            await self._take_held(stream)
            await self._registry.close(stream, "client_lost")

    async def _take_held(self, stream: RunningStream) -> None:
        """Hand over what the dialect held back for audio that does not come any more."""
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
        """Hand over what the client sends until it stops; return the error that ended it, if any.

        Raises:
            ConnectionClosed: the client is gone.
        """
        while self._end is None:
            try:
                requests, self._unread = self._unread, []
                for request in requests or self._dialect.receive(await self._next_message()):
                    if isinstance(request, Stop):
                        return None
                    if isinstance(request, Say):
                        await self._say(request.messages)
                    else:
                        await stream.runner.handle(request)
            except ProtocolError as error:
                if error.ends_stream:
                    return error
                await self._tell(error)
            except ConnectionClosed:
                raise
            except Exception:
                return failure(stream.stream_id)
        return self._end

    async def _next_message(self) -> str | bytes:
        self._is_receiving = True
        try:
            message = await self._websocket.recv()
        except asyncio.CancelledError:
            if self._end is None or self._task is None:
                raise
            self._task.uncancel()
            raise self._end from None
        finally:
            self._is_receiving = False
        self._num_messages += 1
        if self._num_messages % _COUNTED_TOGETHER == 0:
            self._rate.take(_COUNTED_TOGETHER, asyncio.get_running_loop().time())
        if len(message) > self._limits.max_message_bytes:
            raise ProtocolError(
                ErrorCode.MESSAGE_TOO_BIG,
                f"got a message of {len(message)} bytes, expected at most"
                f" {self._limits.max_message_bytes}",
            )
        return message

    async def _send_results(
        self, stream: RunningStream, from_seq: int, report: TrackReport
    ) -> bool:
        """Send results until the stream ends; return whether all of them were sent."""
        loop, kept = asyncio.get_running_loop(), stream.runner.results
        beat_s = loop.time() + self._heartbeat_s
        try:
            while True:
                if loop.time() >= beat_s:
                    self._check_idle()
                    await self._send(stream.runner.heartbeat())
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
                    await self._send(result)
                from_seq = unread.results[-1].seq + 1
        except ConnectionClosed:
            pass  # The reader hears of it too.
        except ProtocolError as error:
            self._interrupt(error)
        except Exception:
            self._interrupt(failure(stream.stream_id))
        return False

    async def _send(self, message: ServerMessage) -> None:
        await self._say(self._dialect.send(message))

    async def _tell(self, error: ProtocolError) -> None:
        """Tell the client of an error, or the operator where the client has no ear for it."""
        texts = self._dialect.send(error_message(error))
        if not texts:
            self._log_untold(error)
        await self._say(texts)

    def _log_untold(self, error: ProtocolError) -> None:
        if error.code is ErrorCode.SHUTTING_DOWN:
            return
        if not error.ends_stream:
            if self._has_logged_bad:
                return  # Too many of them end the connection, and that is said.
            self._has_logged_bad = True
        event = "connection_ended" if error.ends_stream else "message_ignored"
        _log.warning(event, entrance=self._entrance, code=error.code.value, reason=str(error))

    async def _say(self, texts: Iterable[str | bytes]) -> None:
        for text in texts:
            try:
                async with asyncio.timeout(self._limits.idle_timeout_s):
                    await self._websocket.send(text)
            except TimeoutError:
                raise ProtocolError(
                    ErrorCode.SLOW_CONSUMER,
                    f"results were not read for {self._limits.idle_timeout_s:g} s",
                ) from None

    def _tracks(self) -> TrackStats | None:
        """What became of packets, where audio comes in such."""
        return self._dialect.tracks if isinstance(self._dialect, ReportsTracks) else None

    # -- ending -----------------------------------------------------------------------------------

    def _check_idle(self) -> None:
        now_s = asyncio.get_running_loop().time()
        num_messages, since_s = self._heard_of
        if self._num_messages > num_messages or not self._is_receiving:
            self._heard_of = (self._num_messages, now_s)
            return
        silent_s = now_s - since_s
        if silent_s > self._limits.idle_timeout_s:
            self._interrupt(
                ProtocolError(
                    ErrorCode.IDLE,
                    f"got no message for {silent_s:.0f} s, expected one within"
                    f" {self._limits.idle_timeout_s:g} s",
                )
            )

    def _interrupt(self, error: ProtocolError) -> None:
        """Let the reader end with ``error``, after the message it is at."""
        if self._end is None:
            self._end = error
            if self._is_receiving and self._task is not None:
                self._task.cancel()

    async def _refuse(self, error: ProtocolError) -> None:
        """Tell the client why, and close."""
        with contextlib.suppress(ConnectionClosed, TimeoutError, ProtocolError):
            async with asyncio.timeout(2 * _GOODBYE_S):
                await self._tell(error)
                await self._close(*self._close_frame(error))

    async def _close(self, code: int, reason: str = "") -> None:
        """Close the WebSocket, or let the client do it where that is the custom."""
        if self._dialect.client_closes:
            with contextlib.suppress(TimeoutError, ProtocolError):
                async with asyncio.timeout(_GOODBYE_S):
                    while True:
                        for request in self._dialect.receive(await self._websocket.recv()):
                            if isinstance(request, Say):
                                await self._say(request.messages)
        await self._websocket.close(code, reason)
