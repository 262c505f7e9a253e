"""What a client asks of a server, and how patiently."""

from __future__ import annotations

from dataclasses import dataclass, field

from stream_server.protocol.client_messages import ChannelSpec, Want

__all__ = ["DEFAULT_URL", "StreamOptions"]

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
