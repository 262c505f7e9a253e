"""Stream a source to a server and yield its messages, over any number of connections.

::

    source ──▶ _pump ──▶ NativeClient (what is not acknowledged yet) ──▶ _send ──▶ connection
    caller ◀── _run ◀─────────────── _converse ◀── _receive ◀──────────────────────────┘

``_pump`` runs once for the life of the client, ``_send`` and ``_receive`` once a connection: a live
source goes on being recorded while there is no connection. The protocol itself is the sans-I/O
:class:`~stream_server.wire.native_client.NativeClient`.
"""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
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
from stream_server.wire.errors import Backoff, ProtocolError
from stream_server.wire.messages import ChannelSpec, Error, Ready, ServerMessage, Want
from stream_server.wire.native_client import DEFAULT_KEPT_S, ClientState, NativeClient
from stream_server.wire.replay_log import CannotBeginAnewError
from stream_server.wire.results import Message, Summary
from stream_server.wire.start import StreamSpec

DEFAULT_URL = "ws://localhost:8765"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What to request from a server, and how patiently.

    Attributes:
        channels: one entry a channel of the source; empty: each a ``speaker``.
        name: of the stream, for people.
        metadata: kept with the stream: at most 32 entries of 256 characters.
        wants: which results to get.
        token: access token, "" if the server needs none.
        tls: of ``wss://``, see :func:`~mic_client.connection.tls_trusting`; None: the authorities
            of the system are trusted.
        resume: connect again when the connection is lost; False: that is an error.
        reconnect_timeout_s: how long to try. It also bounds how long a server that is full or not
            ready is waited for at the beginning; one that does not answer is an error there.
        open_timeout_s: longest wait for an open connection, and for ``ready``.
        close_timeout_s: longest wait for the other side to close.
        stop_timeout_s: longest silence of the server after ``stop``.
        keep_alive_s: how often to tell the server that there is no audio.
    """

    channels: tuple[ChannelSpec, ...] = ()
    name: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    wants: frozenset[Want] = frozenset(("points", "segments", "alerts"))
    token: str = field(default="", repr=False)
    tls: ssl.SSLContext | None = None
    resume: bool = True
    reconnect_timeout_s: float = 120.0
    open_timeout_s: float = 10.0
    close_timeout_s: float = 5.0
    stop_timeout_s: float = 60.0
    keep_alive_s: float = 10.0


class ConnectionLost(Message, tag="connection_lost", frozen=True, kw_only=True):
    """The connection is lost, or could not be opened, and will be tried again.

    It stands among the messages of the server; ``ready`` follows once there is a connection.

    Attributes:
        reason: why, for people.
        attempt: how many tries have failed in a row, this one included.
        retry_in_s: when the next one is made.
    """

    reason: str
    attempt: int
    retry_in_s: float


ClientEvent = ServerMessage | ConnectionLost
"""What iterating over a client yields."""


_MIN_KEPT_BYTES = 1 << 23
"""Kept of a source that can wait. The server acknowledges with its heartbeats, once a second: at a
hundred times real time 30 s of audio would fill up between two of them, and the source stand
still."""
_MAX_MESSAGE_BYTES = 1 << 22
"""Points with frames of a long step are the largest messages; this is many times that."""


class StreamClient:
    """A stream: audio of a source to a server, results back.

    ::

        async with StreamClient(FileSource("call.wav")) as client:
            async for message in client:
                ...
        print(client.summary)

    Iteration yields the messages of the server and :class:`ConnectionLost`, and ends after the
    summary. When the connection is lost it is opened again, after a growing delay, and the stream
    goes on without a missing or repeated result, if the server has kept it for that long. Audio of
    a live source is kept meanwhile, 30 s of it; another source waits. Reading slowly slows the
    server's sending down, and a server drops clients that are too slow.

    Encoded audio (``source.format.codec``) is passed on as it comes. Nothing can be left out of it,
    so that a live source of it waits, too, and a stream that the server gave up is an error.

    Args:
        source: iterated over and closed by the client.
        url: ``ws://`` or ``wss://``.
        options: see :class:`StreamOptions`.
        rng: source of the random part of delays.

    Attributes:
        summary: the last result, once it has come. If the server gave the stream up and the client
            went on with a new one, it is that of the last stream.

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
            raise ValueError(f"{len(channels)} roles for a source of {num_channels} channels")
        spec = StreamSpec(
            format=source.format,
            channels=channels,
            name=options.name,
            metadata=options.metadata,
            wants=options.wants,
            live=source.is_real_time,
        )
        kept_bytes = DEFAULT_KEPT_S * source.format.bytes_per_s
        self._can_wait = not source.is_live or bool(source.format.codec)
        if self._can_wait:
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

    @property
    def ready(self) -> Ready | None:
        """The server's description of the stream, from the last connection."""
        return self._core.ready

    @property
    def stream_start_s(self) -> float:
        """Audio before the present stream: not 0 if the server gave up an earlier one."""
        return self._core.stream_start_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Close the connection and the source, at once."""
        await self.aclose()

    def __aiter__(self) -> AsyncIterator[ClientEvent]:
        """Connect, stream, and yield what comes.

        Raises:
            ClientError: the server refused or ended the stream, or cannot be reached.
            SourceError: the audio could not go on; the results so far have come.
        """
        if self._messages is not None:
            raise RuntimeError("second iteration over a StreamClient; a client is for one stream")
        self._messages = self._run()
        return self._messages

    def stop(self) -> None:
        """End the audio here; iteration goes on with the remaining results and the summary."""
        self._is_stopping = True
        if self._pumping is not None:
            self._pumping.cancel()

    def mark(self, name: str) -> None:
        """Request a ``marked`` with the position of the audio so far."""
        self._core.mark(name)
        self._has_outgoing.set()

    def flush(self) -> None:
        """Request the results up to here at once."""
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
                            # A server that is overloaded accepts, says ready and ends the stream
                            # with an error: neither is a success that makes delays short again.
                            if not isinstance(message, Ready | Error):
                                self._backoff.reset()
                            trying_since_s = loop.time()
                            yield message
                except FailedTry as failed:
                    # Stopped before the server had anything: there is nothing to wait for.
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
        # A wrong URL must not look like a slow server: if nothing answers at the beginning, that is
        # told at once.
        is_first = self.ready is None and not failed.answered
        resumable = self._options.resume or self.ready is None
        if gave_up or is_first or not resumable or not failed.may_retry:
            raise failed.error from failed.__cause__

    async def _converse(self) -> AsyncGenerator[ServerMessage, None]:
        """Yield what comes over one connection; return after the summary.

        Raises:
            FailedTry: the connection could not be opened, or was lost.
        """
        options = self._options
        connection = await open_connection(
            self._url,
            options.token,
            max_message_bytes=_MAX_MESSAGE_BYTES,
            open_timeout_s=options.open_timeout_s,
            close_timeout_s=options.close_timeout_s,
            tls=options.tls,
        )
        self._last_error = None
        sending: asyncio.Task[None] | None = None
        try:
            await connection.send(self._core.connect())
            while self._core.state is not ClientState.FINISHED:
                for message in await self._receive(connection):
                    if isinstance(message, Ready):
                        # Not earlier: ready says from which position on the server needs audio.
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
        except CannotBeginAnewError as error:
            raise FailedTry(
                StreamEndedError(str(error), remedy="Send it again from its beginning"),
                may_retry=False,
                answered=True,
            ) from error
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
        """Return the next messages. Raises TimeoutError: the server owes one and is silent."""
        # While audio is sent the server owes nothing: silence has no results. That the connection
        # is alive is checked by the WebSocket pings of websockets.
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
        # The error message before the close says more than its code.
        if self._last_error is not None:
            error = error_of(self._last_error)
            may_retry = may_retry and not isinstance(error, RefusedError)
        elif close_code in (None, 1000, 1001) or may_retry:
            error = ConnectionFailedError(reason)
        else:
            error = StreamEndedError(reason)
        return FailedTry(error, may_retry=may_retry, answered=True)

    async def _send(self, connection: ClientConnection) -> None:
        """Send what waits, as fast as the server takes it; ``send`` waits for its TCP window."""
        with suppress(ConnectionClosed):
            while True:
                self._has_outgoing.clear()
                for message in self._core.take_outgoing():
                    await connection.send(message)
                # More came while this was sent.
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
        """Hand the source's audio to the core; a source that can wait waits for the server."""
        async with aclosing(_items(self._source)) as items:
            async for item in items:
                if isinstance(item, Chunk):
                    if self._can_wait:
                        await self._wait_for_room(len(item.data))
                    self._core.send_audio(item.data)
                else:
                    self._core.discard(item.samples)
                self._is_drained.clear()
                self._has_outgoing.set()

    def _audio_ended(self, _: asyncio.Task[None]) -> None:
        self._core.stop()
        self._has_outgoing.set()
        # From now on the server owes the summary. A receive that began before has no deadline yet.
        if self._waiting is not None and self._core.state is ClientState.STREAMING:
            now_s = asyncio.get_running_loop().time()
            self._waiting.reschedule(now_s + self._options.stop_timeout_s)

    async def _wait_for_room(self, num_bytes: int) -> None:
        await self._is_drained.wait()
        while self._core.room_bytes < num_bytes:
            self._has_room.clear()
            await self._has_room.wait()


async def _items(source: Source) -> AsyncGenerator[SourceItem, None]:
    """Yield what a source yields.

    ``aclosing`` needs ``aclose()``, which closes a generator at any point; a source's own
    ``aclose()`` closes the device, and its iterator need not be a generator.
    """
    async for item in source:
        yield item
