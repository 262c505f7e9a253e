"""The client's side of the native protocol, version 1, without I/O.

A shell connects, sends what :meth:`NativeClient.connect` and :meth:`NativeClient.take_outgoing`
return, passes on what it receives, and asks :meth:`NativeClient.closed` whether to reconnect::

    client = NativeClient(spec)
    send(client.connect())                    # on every new connection
    for result in client.receive(message):    # for every message that comes
        ...
    client.send_audio(chunk)                  # whenever there is audio, connected or not
    for message in client.take_outgoing():    # after either
        send(message)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

import msgspec

from stream_server.wire.errors import ERRORS, ErrorCode, ProtocolError
from stream_server.wire.feed_messages import decode_server_message
from stream_server.wire.messages import (
    Discarded,
    Error,
    Flush,
    Heartbeat,
    KeepAlive,
    Mark,
    Pause,
    Ready,
    Resume,
    ResumeRequest,
    ServerMessage,
    Start,
    Stop,
)
from stream_server.wire.replay_log import CannotBeginAnewError, ReplayLog
from stream_server.wire.results import Summary
from stream_server.wire.start import StreamSpec, check_span, check_text

# RFC 6455, section 7.4.1, and the IANA registry of close codes: 1005 and 1006 are a close without a
# code and a lost connection; 1011 to 1014 a server or proxy that failed, restarts or is busy.
_LOST_CONNECTION = (1005, 1006, 1011, 1012, 1013, 1014)
# What proxies answer while the server behind them is away (RFC 9110, section 15.6).
_TEMPORARY_STATUSES = (408, 502, 504)


def retry_after_close(close_code: int | None, error: Error | None = None) -> bool:
    """Return whether connecting again may work; None: the connection broke without a close frame.

    Several errors share a close code, so the last ``error`` that ends a stream decides if there is
    one.
    """
    if error is not None:
        try:
            return ERRORS[ErrorCode(error.code)].retry
        except ValueError:
            pass  # An error of a later version: its close code has to do.
    if close_code is None or close_code in _LOST_CONNECTION:
        return True
    return any(kind.retry for kind in ERRORS.values() if kind.close_code == close_code)


def retry_after_refusal(http_status: int) -> bool:
    """Return whether connecting again may work after the handshake was refused with a status."""
    if http_status in _TEMPORARY_STATUSES:
        return True
    # Errors that share a status may differ; all of them must be worth another try.
    kinds = [kind for kind in ERRORS.values() if kind.http_status == http_status]
    return bool(kinds) and all(kind.retry for kind in kinds)


DEFAULT_KEPT_S = 30
"""Audio kept for a lost connection: the server's default ``resume_window_s``."""


_encoder = msgspec.json.Encoder()


class ClientState(Enum):
    """State of the protocol."""

    DISCONNECTED = auto()
    STARTING = auto()
    """``start`` is sent; ``ready`` has not come."""
    STREAMING = auto()
    FINISHED = auto()
    """``summary`` has come, and everything was sent."""


@dataclass(slots=True)
class _Stream:
    """The stream as the server last described it.

    Attributes:
        ready: its ``ready``; None before the first.
        start_sample: position 0 of this stream, counted from the client's first sample.
        last_seq: of the last result received.
        ended: the server ended it before it had received everything.
        took_encoded: it had decoded some of it by then, so that the rest cannot begin a new one.
        error: the last error on this connection that ends the stream.
    """

    ready: Ready | None = None
    start_sample: int = 0
    last_seq: int = -1
    ended: bool = False
    took_encoded: bool = False
    error: Error | None = None


class NativeClient:
    """One stream of a client over any number of connections.

    Positions are samples a channel at the client's rate. The client's own count from its first
    sample and never go back. The server's begin at 0 with every stream, and after a stream that the
    server could not keep a new one begins: :attr:`stream_start_s` is the difference. What a
    server would refuse raises at once, so that both sides count the same controls.

    Of encoded audio (``format.codec``) they count bytes, and a stream is resumed at a byte. It
    begins anew only if the server has decoded nothing of it and all of it is still kept; otherwise
    :meth:`connect` or :meth:`receive` raises.

    Args:
        spec: the stream to ask for; its ``resume`` is not used.
        max_kept_bytes: bound of what is kept to be sent again; by default ``DEFAULT_KEPT_S`` of
            audio. When it is exceeded the oldest is dropped, sent or not.
    """

    def __init__(self, spec: StreamSpec, *, max_kept_bytes: int | None = None) -> None:
        self._spec = spec
        self._max_kept_bytes = (
            spec.format.bytes_per_s * DEFAULT_KEPT_S if max_kept_bytes is None else max_kept_bytes
        )
        self._log = ReplayLog(spec.format, self._max_kept_bytes)
        self._stream = _Stream()
        self.state = ClientState.DISCONNECTED
        self._stopped = False

    @property
    def ready(self) -> Ready | None:
        return self._stream.ready

    @property
    def stream_start_s(self) -> float:
        """Start of the server's present stream, counted from the client's first sample.

        Added to the times of results it makes them continuous.
        """
        return self._stream.start_sample / self._spec.format.sample_rate_hz

    @property
    def room_bytes(self) -> int:
        """How much audio can be added before the oldest is dropped.

        A source that can wait, a file, waits for it; a microphone cannot.
        """
        return max(0, self._max_kept_bytes - self._log.num_kept_bytes)

    def connect(self) -> str:
        """Return the first message of a new connection.

        Raises:
            CannotBeginAnewError: the server ended the stream, and its audio is encoded.
        """
        if self.state is ClientState.FINISHED:
            raise RuntimeError("stream already finished: make a new client")
        self._log.disconnected()
        stream = self._stream
        codec = self._spec.format.codec
        if stream.took_encoded:
            raise CannotBeginAnewError("the server ended the stream", codec)
        stream.error = None
        self.state = ClientState.STARTING
        resume = None
        # A stream that ended cannot be resumed; what it did not take begins a new one.
        if stream.ready is not None and not stream.ended:
            resume = ResumeRequest(
                token=stream.ready.resume_token,
                next_sample=0 if codec else self._log.start_sample - stream.start_sample,
                last_seq=stream.last_seq,
                next_byte=self._log.start_sample if codec else None,
            )
        spec = self._spec
        return _text(
            Start(
                encoding=spec.format.told_encoding,
                sample_rate=spec.format.sample_rate_hz,
                channels=spec.channels,
                name=spec.name,
                metadata=spec.metadata,
                wants=tuple(sorted(spec.wants)),
                live=spec.live,
                resume=resume,
                token=spec.token,
            )
        )

    def receive(self, message: str | bytes) -> list[ServerMessage]:
        """Take a message of the server; return it decoded, or nothing if it is not new.

        Left out are results that came before the connection was lost, binary messages, and types of
        a later version of the protocol.

        Raises:
            CannotBeginAnewError: the server no longer has the stream, and its audio is encoded.
            ProtocolError: the message is not one of this protocol.
        """
        decoded = None if isinstance(message, bytes) else decode_server_message(message)
        match decoded:
            case None:
                return []
            case Ready():
                self._begin(decoded)
            case Heartbeat():
                self._log.forget(self._received(decoded), decoded.received_controls)
            case Error():
                if decoded.close_code is not None:
                    self._stream.error = decoded
            case _:
                # A resumed stream sends again what the lost connection may have swallowed.
                if decoded.seq <= self._stream.last_seq:
                    return []
                self._stream.last_seq = decoded.seq
                if isinstance(decoded, Summary):
                    self._end(decoded)
        return [decoded]

    def take_outgoing(self) -> list[str | bytes]:
        """Return what to send now; after a lost connection first what the server does not have."""
        # Before ``ready`` the position at which the server continues is not known.
        if self.state is not ClientState.STREAMING:
            return []
        return [
            content if isinstance(content, bytes) else _text(content)
            for content in self._log.take()
        ]

    def keep_alive(self) -> list[str]:
        """Return the ``keepalive`` to send while there is no audio; nothing before ``ready``."""
        return [_text(KeepAlive())] if self.state is ClientState.STREAMING else []

    def closed(self, close_code: int | None) -> bool:
        """Note a close, without a close frame if None; return whether to reconnect."""
        if self.state is ClientState.FINISHED:
            return False
        self._log.disconnected()
        self.state = ClientState.DISCONNECTED
        return retry_after_close(close_code, self._stream.error)

    def refused(self, http_status: int) -> bool:
        """Note that the handshake was refused with a status; return whether to try again."""
        return self.state is not ClientState.FINISHED and retry_after_refusal(http_status)

    def retry_after_s(self) -> float | None:
        """The server's ``retry_after_s`` in the last error; None without one."""
        return None if self._stream.error is None else self._stream.error.retry_after_s

    def send_audio(self, data: bytes) -> None:
        """Add audio, interleaved, in the stream's format, in any split.

        Of encoding ``opus`` it is one packet.
        """
        self._check("audio", may_be_paused=False)
        self._log.add_audio(data)

    def discard(self, num_samples: int) -> None:
        """Report samples a channel that were lost before they could be sent."""
        self._check("discard()", may_be_paused=False)
        check_span("samples of 'discarded'", num_samples)
        if num_samples:
            self._log.add_control(Discarded(samples=num_samples))

    def pause(self) -> None:
        """Pause: no audio comes until :meth:`resume`."""
        self._check("pause()", may_be_paused=False)
        self._log.add_control(Pause())

    def resume(self, paused_samples: int) -> None:
        """Resume after a pause of ``paused_samples`` a channel."""
        self._check("resume()", may_be_paused=True)
        if not self._log.paused:
            raise RuntimeError("resume() called, but the stream is not paused")
        check_span("paused_samples of 'resume'", paused_samples)
        self._log.add_control(Resume(paused_samples=paused_samples))

    def mark(self, name: str) -> None:
        """Ask for ``marked`` at this position."""
        self._check("mark()", may_be_paused=True)
        check_text("name of 'mark'", name, ErrorCode.BAD_MESSAGE)
        self._log.add_control(Mark(name=name))

    def flush(self) -> None:
        """Ask for the results up to this position."""
        self._check("flush()", may_be_paused=True)
        self._log.add_control(Flush())

    def stop(self) -> None:
        """End the stream; ``summary`` will follow."""
        self._check("stop()", may_be_paused=True)
        self._log.add_control(Stop())
        self._stopped = True

    def _check(self, what: str, *, may_be_paused: bool) -> None:
        # The server ignores a control it refuses, and does not count it: the counts would differ.
        if self._stopped:
            raise RuntimeError(f"got {what}, but stop() was called already")
        if self._log.paused and not may_be_paused:
            raise RuntimeError(f"got {what}, but the stream is paused; call resume() first")

    def _received(self, message: Ready | Heartbeat) -> int:
        """Return how far the server is, as the log counts it."""
        if not self._spec.format.codec:
            return message.received_samples + self._stream.start_sample
        if isinstance(message.received_bytes, int):
            # A stream of encoded audio always begins at its first byte.
            return message.received_bytes
        raise ProtocolError(
            ErrorCode.BAD_MESSAGE,
            "got no 'received_bytes' from the server, expected them of a stream that is decoded",
        )

    def _end(self, summary: Summary) -> None:
        stream = self._stream
        if self._spec.format.codec:
            # How many bytes it had received is not in a summary: they cannot be compared.
            is_end = summary.reason == "stopped"
            self.state = ClientState.FINISHED if is_end else ClientState.DISCONNECTED
            stream.ended, stream.took_encoded = True, summary.received_samples > 0
            return
        received = summary.received_samples + stream.start_sample
        # A server that is being stopped may still have received everything.
        if summary.reason == "stopped" or (self._stopped and received >= self._log.end_sample):
            self.state = ClientState.FINISHED
            return
        # What the server no longer received begins a new stream.
        self._log.skip_to(received)
        self.state = ClientState.DISCONNECTED
        stream.ended = True

    def _begin(self, ready: Ready) -> None:
        if self.state is not ClientState.STARTING:
            raise ProtocolError(
                ErrorCode.UNEXPECTED_MESSAGE, "got 'ready' without a 'start' that waits for it"
            )
        stream = self._stream
        if ready.resumed:
            self._log.go_on(
                self._received(ready),
                ready.received_controls,
                paused=ready.paused,
            )
        else:
            # Also where a resume was asked for: the server has given the stream up.
            self._log.begin_stream()
            stream.start_sample = self._log.start_sample
            stream.last_seq = -1
            stream.ended = False
        stream.ready = ready
        self.state = ClientState.STREAMING


def _text(message: msgspec.Struct) -> str:
    return _encoder.encode(message).decode()
