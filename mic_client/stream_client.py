"""Streams a source to a server and yields what the server says, over any number of connections.

What a client asks of a server, and how patiently.

What a client says itself, among the messages of the server.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from mic_client.connection import (
    FailedTry,
    check_url,
    describe_close,
    error_of,
    open_connection,
)
from mic_client.errors import ConnectionFailedError, RefusedError, StreamEndedError
from mic_client.sources import Chunk, Source, SourceItem
from stream_server.wire.backoff import Backoff
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import ChannelSpec, Error, Ready, ServerMessage, Want
from stream_server.wire.native_client import DEFAULT_KEPT_S, ClientState, NativeClient
from stream_server.wire.results import Message, Summary
from stream_server.wire.start import StreamSpec

DEFAULT_URL = "ws://localhost:8765"


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What to ask of a server, and how patiently.

    Attributes:
        channels: one entry a channel of the source; empty: each a ``speaker``.
        name: of the stream, for people.
        metadata: kept with the stream: at most 32 entries of 256 characters.
        wants: which results to get.
        token: access token, "" where none is needed.
        resume: connect again when the connection is lost; False: that is an error.
        reconnect_timeout_s: how long to try, s. It also bounds how long a server that is full or
            not ready is waited for at the beginning; one that does not answer is an error there.
        open_timeout_s: longest wait for an open connection, and for ``ready``, s.
        close_timeout_s: longest wait for the other side to close, s.
        stop_timeout_s: longest silence of the server after ``stop``, s.
        keep_alive_s: how often to say that there is no audio, s.
    """

    channels: tuple[ChannelSpec, ...] = ()
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    wants: frozenset[Want] = frozenset(("points", "segments", "alerts"))
    token: str = field(default="", repr=False)
    resume: bool = True
    reconnect_timeout_s: float = 120.0
    open_timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    stop_timeout_s: float = 60.0
    keep_alive_s: float = 10.0


class ConnectionLost(Message, tag="connection_lost", frozen=True, kw_only=True):
    """The connection is gone, or could not be had; it is tried again. ``ready`` follows then.

    Attributes:
        reason: why, for people.
        attempt: how many tries have failed in a row, this one included.
        retry_in_s: when the next one is made, s.
    """

    reason: str
    attempt: int
    retry_in_s: float


ClientEvent = ServerMessage | ConnectionLost
"""What iterating over a client yields."""


_MIN_KEPT_BYTES = 1 << 23
"""Kept for a source that can wait: what is sent faster than real time is only known to have
arrived at the next heartbeat, and the source waits when this is full."""


class StreamClient:
    """A stream: audio of a source to a server, results back.

    ::

        async with StreamClient(FileSource("call.wav")) as client:
            async for message in client:
                ...
        print(client.summary)

    Iteration yields the messages of the server and
    :class:`ConnectionLost`, and ends after the summary. When the connection is lost it is opened
    again, after a growing delay, and the stream goes on without a missing or doubled result as
    long as the server waited. Audio of a live source is kept meanwhile, 30 s of it; another source
    waits. Reading slowly slows the server's sending down, and a server drops clients that are
    too slow.

    Args:
        source: iterated over and closed by the client.
        url: ``ws://`` or ``wss://``.
        options: see :class:`StreamOptions`.
        rng: makes the random part of delays.

    Raises:
        ValueError: the URL, or the number of channels, is wrong.
    """

    def __init__(
        self,
        source: Source,
        url: str = DEFAULT_URL,
        options: StreamOptions | None = None,
        *,
        rng: random.Random | None = None,
    ) -> None:
        self._source = source
        self._url = check_url(url)
        self._options = options = options or StreamOptions()
        num_channels = source.format.num_channels
        channels = options.channels or (ChannelSpec(),) * num_channels
        if len(channels) != num_channels:
            raise ValueError(f"got {len(channels)} roles for a source of {num_channels} channels")
        spec = StreamSpec(
            format=source.format,
            channels=channels,
            name=options.name,
            metadata=options.metadata,
            wants=options.wants,
            live=source.is_real_time,
        )
        kept_bytes = DEFAULT_KEPT_S * source.format.bytes_per_s
        if not source.is_live:
            kept_bytes = max(kept_bytes, _MIN_KEPT_BYTES)
        self._core = NativeClient(spec, max_kept_bytes=kept_bytes)
        self._backoff = Backoff(0.5, 10.0, rng)
        self._pumping: asyncio.Task[None] | None = None
        self._messages: AsyncGenerator[ClientEvent, None] | None = None
        self._has_outgoing = asyncio.Event()
        self._is_drained = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_stopping = False
        self._last_error: Error | None = None
        self._waiting: asyncio.Timeout | None = None
        self.summary: Summary | None = None
        """The last result, when it has come; where the server ended the stream and the client went
        on with a new one, that of the last stream."""

    @property
    def ready(self) -> Ready | None:
        """What the server said of the stream at last."""
        return self._core.ready

    @property
    def stream_start_s(self) -> float:
        """Audio before the present stream, s: not 0 where the server gave up an earlier one."""
        return self._core.stream_start_s

    async def __aenter__(self) -> Self:
        """Return the client."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection and the source, at once."""
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[ClientEvent]:
        """Connect, stream, and yield what comes.

        Raises:
            ClientError: the server refused or ended the stream, or cannot be reached.
            SourceError: the audio could not go on; the results so far have come.
        """
        if self._messages is not None:
            raise RuntimeError("got a second iteration, expected one client for each stream")
        self._messages = self._run()
        return self._messages

    def stop(self) -> None:
        """End the audio here; the remaining results and the summary still come."""
        self._is_stopping = True
        if self._pumping is not None:
            self._pumping.cancel()

    def mark(self, name: str) -> None:
        """Ask for a ``marked`` with the position of the audio so far."""
        self._core.mark(name)
        self._has_outgoing.set()

    def flush(self) -> None:
        """Ask for the results up to here at once."""
        self._core.flush()
        self._has_outgoing.set()

    async def aclose(self) -> None:
        """Close the connection and the source without waiting for results."""
        if self._messages is not None:
            await self._messages.aclose()
        await self._source.aclose()

    async def _run(self) -> AsyncGenerator[ClientEvent, None]:
        loop = asyncio.get_running_loop()
        self._pumping = asyncio.create_task(self._pump())
        self._pumping.add_done_callback(self._audio_ended)
        if self._is_stopping:
            self._pumping.cancel()
        trying_since_s = loop.time()
        try:
            while self._core.state is not ClientState.FINISHED:
                try:
                    async with aclosing(self._converse()) as conversation:
                        async for message in conversation:
                            if not isinstance(message, Ready | Error):
                                self._backoff.reset()
                            trying_since_s = loop.time()
                            yield message
                except FailedTry as failed:
                    if self._is_stopping and self.ready is None:
                        return
                    self._check_retry(failed, loop.time() - trying_since_s)
                    delay_s = self._backoff.next_s(failed.error.retry_after_s)
                    yield ConnectionLost(
                        reason=failed.error.message,
                        attempt=self._backoff.attempts,
                        retry_in_s=round(delay_s, 3),
                    )
                    await asyncio.sleep(delay_s)
        finally:
            self._pumping.cancel()
            await asyncio.wait([self._pumping])
            await self._source.aclose()
        if not self._pumping.cancelled() and (error := self._pumping.exception()) is not None:
            raise error
        if self._last_error is not None:
            raise error_of(self._last_error)

    def _check_retry(self, failed: FailedTry, tried_s: float) -> None:
        """Raise the error unless it is worth trying again."""
        gave_up = tried_s >= self._options.reconnect_timeout_s
        is_first = self.ready is None and not failed.answered
        resumable = self._options.resume or self.ready is None
        if gave_up or is_first or not resumable or not failed.may_retry:
            raise failed.error from failed.__cause__

    async def _converse(self) -> AsyncGenerator[ServerMessage, None]:
        """Yield what comes over one connection; return after the summary.

        Raises:
            FailedTry: the connection was not had, or was lost.
        """
        options = self._options
        connection = await open_connection(
            self._url,
            options.token,
            open_timeout_s=options.open_timeout_s,
            close_timeout_s=options.close_timeout_s,
        )
        self._last_error = None
        sending: asyncio.Task[None] | None = None
        try:
            await connection.send(self._core.connect())
            while self._core.state is not ClientState.FINISHED:
                for message in await self._receive(connection):
                    if isinstance(message, Ready):
                        sending = asyncio.create_task(self._send(connection))
                    elif isinstance(message, Error) and message.close_code is not None:
                        self._last_error = message
                    elif isinstance(message, Summary):
                        self.summary = message
                    yield message
                self._has_room.set()
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else None
            raise self._lost(describe_close(closed), code) from closed
        except TimeoutError as error:
            what = "ready" if self._core.state is ClientState.STARTING else "summary"
            raise self._lost(f"the server did not send '{what}' in time", None) from error
        except ProtocolError as error:
            raise FailedTry(
                StreamEndedError(str(error), remedy="Use a server of the client's version"),
                may_retry=False,
                answered=True,
            ) from error
        finally:
            self._is_drained.clear()
            if sending is not None:
                sending.cancel()
                await asyncio.wait([sending])
            await connection.close()

    async def _receive(self, connection: ClientConnection) -> list[ServerMessage]:
        """Return what the next message says.

        Raises:
            TimeoutError: the server owes one and is silent.
        """
        timeout_s: float | None = None
        if self._core.state is ClientState.STARTING:
            timeout_s = self._options.open_timeout_s
        elif self._pumping is not None and self._pumping.done():
            timeout_s = self._options.stop_timeout_s
        async with asyncio.timeout(timeout_s) as self._waiting:
            try:
                return self._core.receive(await connection.recv())
            finally:
                self._waiting = None

    def _lost(self, reason: str, close_code: int | None) -> FailedTry:
        may_retry = self._core.closed(close_code)
        if self._last_error is not None:
            error = error_of(self._last_error)
            may_retry = may_retry and not isinstance(error, RefusedError)
        elif close_code in (None, 1000, 1001) or may_retry:
            error = ConnectionFailedError(reason)
        else:
            error = StreamEndedError(reason)
        return FailedTry(error, may_retry=may_retry, answered=True)

    async def _send(self, connection: ClientConnection) -> None:
        """Send what is there, as fast as the server takes it."""
        with suppress(ConnectionClosed):
            while True:
                self._has_outgoing.clear()
                outgoing = self._core.take_outgoing()
                for message in outgoing:
                    await connection.send(message)
                if self._has_outgoing.is_set():
                    continue
                self._is_drained.set()
                try:
                    async with asyncio.timeout(self._options.keep_alive_s):
                        await self._has_outgoing.wait()
                except TimeoutError:
                    for message in self._core.keep_alive():
                        await connection.send(message)

    async def _pump(self) -> None:
        """Take what the source gives to the core; a source that can wait waits for the server."""
        async with aclosing(_items(self._source)) as items:
            async for item in items:
                if isinstance(item, Chunk):
                    if not self._source.is_live:
                        await self._wait_for_room(len(item.data))
                    self._core.send_audio(item.data)
                else:
                    self._core.discard(item.samples)
                self._is_drained.clear()
                self._has_outgoing.set()

    def _audio_ended(self, _: asyncio.Task[None]) -> None:
        self._core.stop()
        self._has_outgoing.set()
        # Until now the server owed nothing.
        if self._waiting is not None and self._core.state is ClientState.STREAMING:
            now_s = asyncio.get_running_loop().time()
            self._waiting.reschedule(now_s + self._options.stop_timeout_s)

    async def _wait_for_room(self, num_bytes: int) -> None:
        await self._is_drained.wait()
        while self._core.room_bytes < num_bytes:
            self._has_room.clear()
            await self._has_room.wait()


async def _items(source: Source) -> AsyncGenerator[SourceItem, None]:
    """Yield what a source gives; unlike a source, a generator can be closed at any point."""
    async for item in source:
        yield item
