"""A client's WebSocket as its dialect sees it: bounded messages in, messages out, an orderly end.

A reader waits for one of two things, the next message or the end of the connection. Both come
through one queue that a task of the socket's own fills, so the reader's wait is never cancelled.

Most messages are 20 ms of audio from which nothing follows yet. Those are taken at once, in the
call that brings the bytes: no task is woken, nothing is queued, and where one before left room
(:class:`~stream_server.streams.intake.Inlet`) nobody is asked. That is so only while nothing else
has come that the reader has not dealt with, so messages keep their order::

    bytes ──▶ MessageConnection ──▶ the stream's buffer                              (23 of 25)
                     ├──▶ ClientSocket.at_once ──▶ the same, or inbox ──▶ reader     (2)
                     └──▶ frames of websockets ──▶ receiver ──▶ inbox ──▶ reader     (others)

A reader that is busy holds the client back: bytes of messages that have to wait for it stay as they
came, and few more are read. So a server that has fallen behind does not do more for a message than
one that has not, but less: it takes all that came meanwhile in one go.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import structlog
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State
from websockets.streams import StreamReader

from stream_server.config import LimitsConfig
from stream_server.streams.intake import LET_IN_TOGETHER, Inlet
from stream_server.wire.dialect import Dialect, Inbound, Say, TakesPlainAudio
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ServerMessage, error_message

try:
    from websockets.speedups import apply_mask
except ImportError:  # Its wheels have it; the package is complete without.
    from websockets.utils import apply_mask

_log = structlog.get_logger(__name__)

GOODBYE_S = 5.0
"""Longest wait for a client to read its last error, or to close by itself."""

# Messages of this time may come at once: telephone platforms send what they kept back.
_BURST_S = 10.0


class MessageRate:
    """A token bucket. Time is an argument.

    Args:
        per_s: messages a second on average.
        what: is counted, in the plural.
    """

    def __init__(self, per_s: float, now_s: float, what: str = "messages") -> None:
        self._what = what
        self._per_s = per_s
        self._left = per_s * _BURST_S
        self._then_s = now_s

    def take(self, count: int, now_s: float) -> None:
        """Count messages. Raises ProtocolError: they are too many."""
        refilled = self._left + (now_s - self._then_s) * self._per_s
        self._left = min(refilled, self._per_s * _BURST_S)
        self._then_s = now_s
        if self._left < count:
            raise ProtocolError(
                ErrorCode.TOO_MANY_MESSAGES,
                f"got more than {self._per_s:g} {self._what} a second, expected fewer",
            )
        self._left -= count


# First byte of a frame that is a whole message without an extension: text, binary (RFC 6455, 5.2).
_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
_MASKED = 0x80
_LENGTH_IN_TWO_BYTES = 126
_LEAST_BYTES = 6  # of a frame: two, and a mask
_IS_CONTROL = 0x08  # of the bits of a frame's kind: close, ping, pong
# Read while a reader is busy, so that a client that closes meanwhile, or asks whether the server is
# there, has its answer.
_MOST_HELD_BYTES = 64 * 1024


class MessageConnection(ServerConnection):
    """A connection whose messages can be had as they come, without a task that waits for them.

    Attributes:
        on_message: takes a whole message and returns True; or False where :meth:`recv` is to return
            it, as it does all messages while this is None; or None where it is to be offered again
            by :meth:`go_on`, before which little more is read.
        inlet: takes plain audio without that call.
        num_unread: messages for :meth:`recv` that came. Whoever reads them counts them down.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.on_message: Callable[[str | bytes], bool | None] | None = None
        self.inlet: Inlet | None = None
        self.num_unread = 0
        self._is_between = False
        self._rest = b""  # that came and neither was taken nor parsed
        self._is_held = False  # it waits for go_on(), and not for the end of a message

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data, self._rest = self._rest + data, b""
        if self.on_message is not None and self._is_between and self.protocol.state is State.OPEN:
            data = self._without_taken(data)
            if self._is_held and not _has_control(data):
                self._rest = data
                if len(data) > _MOST_HELD_BYTES:
                    self.transport.pause_reading()
                return
            if not data or _is_begun(data):
                # The parser would have to be given all that follows, too, until a frame ends where
                # a read does: with a backlog hardly any does.
                self._rest = data
                return
        self._parse(data)

    def eof_received(self) -> None:
        self._give_rest()
        super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone; what came before is still to be had."""
        self.recv_messages.high = None  # There is no reading to be paused.
        self._give_rest()
        super().connection_lost(exc)

    def go_on(self) -> None:
        """Offer again what was held back, and read on once all of it was taken."""
        if self._is_held:
            self.data_received(b"")
            self._read_on()

    def offer_no_more(self) -> None:
        """Let :meth:`recv` return all messages from here on."""
        is_held = self._is_held
        self.on_message = self.inlet = None
        self._give_rest()
        if is_held:
            self._read_on()

    def _read_on(self) -> None:
        # Where many messages wait for recv(), websockets reads on by itself, later.
        waits = self._is_held or self.recv_messages.paused
        if not waits and not self.transport.is_closing():
            self.transport.resume_reading()

    def _give_rest(self) -> None:
        data, self._rest = self._rest, b""
        if data:
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        self._is_held = False
        if self.inlet is not None:
            self.inlet.shut()
        super().data_received(data)
        self._is_between = self._is_between_messages()

    def send_at_once(self, messages: Sequence[str | bytes]) -> bool:
        """Send messages if the client reads fast enough; return whether they were sent.

        As ``websockets.asyncio.connection.broadcast`` does it: :meth:`send` makes a context and
        waits for a buffer that is hardly ever full. False: :meth:`send` may have to wait, or fails.
        """
        is_busy = self.paused or self.send_in_progress is not None
        if is_busy or self.protocol.state is not State.OPEN:
            return False
        for message in messages:
            if isinstance(message, str):
                self.protocol.send_text(message.encode())
            else:
                self.protocol.send_binary(message)
        try:
            self.transport.write(b"".join(self.protocol.data_to_send()))
        except Exception as error:  # Of the system, and rare: the reader finds the client gone.
            self.set_connection_exc(error)
            self.transport.abort()
        return True

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame) and event.fin and event.opcode in DATA_OPCODES:
            self.num_unread += 1
        super().process_event(event)

    def _is_between_messages(self) -> bool:
        # A generator within generators waits for it, or for a byte within a frame.
        parser: Any = self.protocol.parser
        while parser.gi_yieldfrom is not None:
            parser = parser.gi_yieldfrom
        is_at_frame = parser.gi_code is StreamReader.at_eof.__code__
        return is_at_frame and self.protocol.current_size is None and not self.protocol.debug

    def _without_taken(self, data: bytes) -> bytes:
        """Offer the whole messages at the beginning of ``data``; return what was not taken.

        Only frames as nearly all are: the parser of ``websockets`` judges all others.
        """
        assert self.on_message is not None
        inlet, at, length = self.inlet, 0, len(data)
        self._is_held = False
        while length - at > _LEAST_BYTES:
            kind, size = data[at], data[at + 1] - _MASKED
            start = at + 6
            if size == _LENGTH_IN_TWO_BYTES:
                size, start = data[at + 2] << 8 | data[at + 3], at + 8
            elif not 0 <= size < _LENGTH_IN_TWO_BYTES:
                break
            end = start + size
            if end > length or kind not in (_WHOLE_BINARY, _WHOLE_TEXT):
                break
            payload = apply_mask(data[start:end], data[start - 4 : start])
            if (
                inlet is not None
                and size < inlet.room_bytes
                and kind == _WHOLE_BINARY
                and inlet.messages_left
                and not size % inlet.sample_bytes
                # It may be a control message.
                and payload[:1] != b"{"
            ):
                inlet.waiting += payload
                inlet.room_bytes -= size
                inlet.messages_left -= 1
                at = end
                continue
            try:
                message = payload.decode() if kind == _WHOLE_TEXT else payload
            except UnicodeDecodeError:
                break
            if not (is_taken := self.on_message(message)):
                self._is_held = is_taken is None
                break
            at = end
        return data[at:] if at else data


def _is_begun(data: bytes) -> bool:
    """Return whether ``data`` is the beginning of a frame as nearly all are, and not all of it."""
    if data[0] not in (_WHOLE_BINARY, _WHOLE_TEXT):
        return False
    if len(data) > 1 and not 0 <= data[1] - _MASKED <= _LENGTH_IN_TWO_BYTES:
        return False
    return _end_of_frame(data, 0) > len(data)


def _has_control(data: bytes) -> bool:
    """Return whether a control frame is among the frames of ``data`` that are whole."""
    at = 0
    while (end := _end_of_frame(data, at)) <= len(data):
        if data[at] & _IS_CONTROL:
            return True
        at = end
    return False


def _end_of_frame(data: bytes, at: int) -> int:
    """Return where the frame ends that begins at ``at``.

    Beyond all of ``data`` where its length has not come, or is written in more than two bytes.
    """
    unknown = len(data) + 1
    if len(data) < at + 2:
        return unknown
    size = data[at + 1] & ~_MASKED
    if size < _LENGTH_IN_TWO_BYTES:
        return at + _LEAST_BYTES + size
    if size > _LENGTH_IN_TWO_BYTES or len(data) < at + 4:
        return unknown
    return at + _LEAST_BYTES + 2 + (data[at + 2] << 8 | data[at + 3])


class ClientSocket:
    """An open WebSocket and its dialect; receives between ``async with`` and its end.

    Attributes:
        end: why the connection is to end; None if the client decides.
    """

    def __init__(
        self,
        websocket: MessageConnection,
        dialect: Dialect,
        limits: LimitsConfig,
        route: str = "/",
    ) -> None:
        now_s = asyncio.get_running_loop().time()
        self.dialect = dialect
        self.end: ProtocolError | None = None
        self._at_once: Callable[[list[Inbound]], bool] | None = None
        self._inlet: Inlet | None = None
        self._takes_plain = dialect if isinstance(dialect, TakesPlainAudio) else None
        self._uncounted = 0  # messages, in their rate
        self._websocket = websocket
        self._limits = limits
        self._route = route
        self._has_logged_bad = False
        self._rate = MessageRate(limits.max_messages_per_s, now_s)
        self._num_messages = 0
        self._last_active = (0, now_s)  # number of messages, when it was last seen to grow
        # A message, what the dialect made of one, the loss of the connection, or None: look at
        # ``end``. One entry only, so that a reader that is busy holds the client back by TCP, and
        # not by this server's memory.
        self._inbox: asyncio.Queue[_Incoming | None] = asyncio.Queue(maxsize=1)
        self._receiver: asyncio.Task[None] | None = None
        self._is_waiting = False

    async def __aenter__(self) -> ClientSocket:
        self._receiver = asyncio.create_task(self._receive_all(), name="receiver")
        self._websocket.on_message = self._take_at_once
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._receiver is not None
        self._websocket.offer_no_more()
        self._receiver.cancel()
        await asyncio.wait([self._receiver])

    @property
    def close_code(self) -> int | None:
        return self._websocket.close_code

    def take(
        self, at_once: Callable[[list[Inbound]], bool] | None, inlet: Inlet | None = None
    ) -> None:
        """Have requests taken as their message comes.

        Args:
            at_once: takes the requests of a message, all of them or, where the reader has to deal
                with them, none, and says which; None: the reader has others first.
            inlet: of those that ``at_once`` takes.
        """
        self._count_let_in()
        self._at_once = at_once
        self._inlet = self._websocket.inlet = None if self._takes_plain is None else inlet

    def take_no_more(self) -> None:
        """Have the reader deal with all messages."""
        self.take(None)
        self._websocket.go_on()

    async def receive(self) -> list[Inbound]:
        """Return the requests of the client's next message.

        Raises:
            ProtocolError: the message is refused, or :meth:`request_end` was called.
            ConnectionClosed: the client is gone.
        """
        return self._requests_of(await self._next_message())

    async def send(self, *messages: ServerMessage) -> None:
        """Send messages in the client's dialect. Raises as :meth:`send_texts`."""
        await self.send_texts([text for each in messages for text in self.dialect.send(each)])

    async def send_error(self, error: ProtocolError) -> None:
        """Send an error, or log it where the dialect has no message for it.

        Raises as :meth:`send_texts`.
        """
        texts = self.dialect.send(error_message(error))
        if not texts:
            self._log_unsent(error)
        await self.send_texts(texts)

    async def send_texts(self, texts: Sequence[str | bytes]) -> None:
        """Send WebSocket messages, together where the client reads fast enough.

        Raises:
            ProtocolError: the client does not read: SLOW_CONSUMER.
            ConnectionClosed: the client is gone.
        """
        if not texts or self._websocket.send_at_once(texts):
            return
        for text in texts:
            try:
                async with asyncio.timeout(self._limits.idle_timeout_s):
                    await self._websocket.send(text)
            except TimeoutError:
                raise ProtocolError(
                    ErrorCode.SLOW_CONSUMER,
                    f"results were not read for {self._limits.idle_timeout_s:g} s",
                ) from None

    async def close(self, code: int, reason: str = "") -> None:
        """Close the WebSocket, or let the client do it where its protocol says so."""
        self._websocket.offer_no_more()
        if self.dialect.client_closes:
            with contextlib.suppress(TimeoutError, ProtocolError):
                async with asyncio.timeout(GOODBYE_S):
                    while True:
                        # ``end`` is no reason to stop: the client is about to close.
                        message = await self._take()
                        requests = [] if message is None else self._requests_of(message)
                        for request in requests:
                            if isinstance(request, Say):
                                await self.send_texts(request.messages)
        await self._websocket.close(code, reason)

    def request_end(self, error: ProtocolError) -> None:
        """Let :meth:`receive` raise ``error``, after the message that is being handled."""
        if self.end is not None:
            return
        self.end = error
        self._count_let_in()
        # With a message in the inbox no reader waits, and the next one looks at ``end``.
        if self._inbox.empty():
            self._inbox.put_nowait(None)

    def check_idle(self) -> None:
        """Request the end if nothing came for ``idle_timeout_s``. To be called now and then."""
        self._count_let_in()
        now_s = asyncio.get_running_loop().time()
        num_messages, since_s = self._last_active
        # While the reader is busy, the client may be held back; that is not its silence.
        if self._num_messages > num_messages or not self._is_waiting:
            self._last_active = (self._num_messages, now_s)
            return
        silent_s = now_s - since_s
        if silent_s > self._limits.idle_timeout_s:
            self.request_end(
                ProtocolError(
                    ErrorCode.IDLE,
                    f"got no message for {silent_s:.0f} s, expected one within"
                    f" {self._limits.idle_timeout_s:g} s",
                )
            )

    def _log_unsent(self, error: ProtocolError) -> None:
        if error.code is ErrorCode.SHUTTING_DOWN:
            return
        if not error.ends_stream:
            if self._has_logged_bad:
                return  # Too many of them end the connection, and that is logged.
            self._has_logged_bad = True
        event = "connection_ended" if error.ends_stream else "message_ignored"
        _log.warning(event, route=self._route, code=error.code.value, reason=str(error))

    def _take_at_once(self, message: str | bytes) -> bool | None:
        """Take a message that nothing came before, if the stream takes it; else the reader does."""
        self._count_let_in()
        if (
            self._at_once is None
            or self.end is not None
            or len(message) > self._limits.max_message_bytes
        ):
            return False
        if self._websocket.num_unread or not self._inbox.empty():
            return None
        incoming: _Incoming
        try:
            self._count_message()
            incoming = self.dialect.receive(message)
            if self._at_once(incoming):
                if self._inlet is not None:
                    self._inlet.limit(self._limits.max_message_bytes)
                return True
        except Exception as error:  # Whatever it is, the reader answers for it.
            incoming = error
        # The dialect has changed with the message: it must not be given it again.
        self._inbox.put_nowait(incoming)
        return True

    def _count_let_in(self) -> None:
        """Count the messages that came in without a call, and let none in for now."""
        if self._inlet is not None and (count := self._inlet.take_count()):
            assert self._takes_plain is not None
            self._takes_plain.plain_audio(count)
            self._num_messages += count
            self._uncounted += count

    def _requests_of(self, incoming: _Incoming) -> list[Inbound]:
        if isinstance(incoming, list):
            return incoming
        if isinstance(incoming, Exception):
            raise incoming
        return self.dialect.receive(incoming)

    async def _receive_all(self) -> None:
        try:
            while True:
                await self._inbox.put(await self._websocket.recv())
                self._websocket.num_unread -= 1
        except ConnectionClosed as error:
            await self._inbox.put(error)

    async def _take(self) -> _Incoming | None:
        self._is_waiting = True
        if self._inbox.empty():
            self._websocket.go_on()
        try:
            message = await self._inbox.get()
        finally:
            self._is_waiting = False
        if isinstance(message, ConnectionClosed):
            # Nothing follows it: every later reader must find it again.
            self._inbox.put_nowait(message)
            raise message
        return message

    async def _next_message(self) -> _Incoming:
        message = None
        while message is None:
            if self.end is not None:
                raise self.end
            message = await self._take()
        if isinstance(message, str | bytes):
            self._count_message()
            if len(message) > self._limits.max_message_bytes:
                raise ProtocolError(
                    ErrorCode.MESSAGE_TOO_BIG,
                    f"got a message of {len(message)} bytes, expected at most"
                    f" {self._limits.max_message_bytes}",
                )
        return message

    def _count_message(self) -> None:
        self._num_messages += 1
        self._uncounted += 1
        # Not each: every client sends some fifty a second.
        if self._uncounted >= LET_IN_TOGETHER:
            count, self._uncounted = self._uncounted, 0
            self._rate.take(count, asyncio.get_running_loop().time())


_Incoming = str | bytes | list[Inbound] | Exception
"""A message; or what the dialect has made of it already: requests, or why it is refused."""
