"""Read a server's results: ``async for result in emotion_feed()``.

The connection is made again whenever it is lost, and what came meanwhile is requested from the
server. Needs ``websockets`` and ``msgspec``; no torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from websockets.exceptions import ConnectionClosed

from mic_client.connection import FailedTry, describe_close, open_connection
from mic_client.errors import ConnectionFailedError, RefusedError
from stream_server.wire.errors import CLOSE_NORMAL, Backoff
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot, decode_feed_message
from stream_server.wire.results import Result, StreamClosed

MAX_STREAMS = 256
"""Streams a server catches a subscriber up on (its limit for ``after``). Of more than that, the one
that has been silent longest is forgotten."""

_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_MAX_MESSAGE_BYTES = 1 << 24
"""The largest message is a snapshot of thousands of streams."""


class FeedPosition:
    """How far a subscriber has come, over any number of connections. Without I/O.

    Attributes:
        missed: results that did not come because they were not read in time, or are not kept.
    """

    def __init__(self) -> None:
        self.missed = 0
        # In the order in which the streams had their last result, so that the first is the one to
        # forget.
        self._last_seqs: OrderedDict[str, int] = OrderedDict()

    @property
    def after(self) -> list[str]:
        """The values of the parameter ``after`` for the next connection."""
        return [f"{stream_id}:{seq}" for stream_id, seq in self._last_seqs.items()]

    def take(self, message: FeedMessage) -> list[Result]:
        """Return the results of a message that are new."""
        match message:
            case Snapshot():
                return [result for result in message.results if self._is_new(result)]
            case Dropped():
                self.missed += message.results
                return []
            case _:
                return [message] if self._is_new(message) else []

    def _is_new(self, result: Result) -> bool:
        # After a reconnection the snapshot repeats what came before; seq only grows in a stream.
        if result.seq <= self._last_seqs.get(result.stream_id, -1):
            return False
        self._last_seqs[result.stream_id] = result.seq
        self._last_seqs.move_to_end(result.stream_id)
        if isinstance(result, StreamClosed):
            del self._last_seqs[result.stream_id]
        elif len(self._last_seqs) > MAX_STREAMS:
            self._last_seqs.popitem(last=False)
        return True


def emotion_feed(
    url: str = "ws://localhost:7860/feed",
    *,
    stream: str | None = None,
    types: Collection[str] = (),
    roles: Collection[str] = (),
    from_s: float | None = None,
    frames: bool = False,
    token: str = "",
    tls: ssl.SSLContext | None = None,
    give_up_after_s: float | None = 60.0,
) -> EmotionFeed:
    """Return a feed to iterate over.

    Args:
        url: of the server's HTTP port; ``http://`` is understood, and the path may be left out.
        stream: id of the one stream wanted, with which the feed ends; None: all.
        types: of results, e.g. ``("point", "alert")``; empty: every type.
        roles: of channels, e.g. ``("driver",)``; empty: every role.
        from_s: begin with what is stored of ``stream`` from here on; None: with now.
        frames: give points their frames.
        token: access token, if the server wants one.
        tls: of ``wss://``, see :func:`~mic_client.connection.tls_trusting`; None: the authorities
            of the system are trusted.
        give_up_after_s: longest time without a connection; None: try for ever.

    Raises:
        RefusedError: the URL is invalid.
    """
    parameters = {
        "stream": stream or "",
        "types": ",".join(types),
        "roles": ",".join(roles),
        "frames": "true" if frames else "",
    }
    return EmotionFeed(
        url=_feed_url(url),
        parameters={name: value for name, value in parameters.items() if value},
        from_s=from_s,
        token=token,
        tls=tls,
        give_up_after_s=give_up_after_s,
    )


class EmotionFeed:
    """A feed; made by :func:`emotion_feed`.

    Iterating yields results in order: those of a snapshot of the live streams first (or the stored
    ones, with ``from_s``), then each as it is published. It raises:

    - ``AccessError``: the token is missing or wrong, or the origin is not allowed;
    - ``RefusedError``: the server knows no such stream, or does not understand the query;
    - ``ConnectionFailedError``: there was no connection for ``give_up_after_s``, or there will be
      none, because what answers is no stream server.
    """

    def __init__(
        self,
        *,
        url: str,
        parameters: dict[str, str],
        from_s: float | None,
        token: str,
        tls: ssl.SSLContext | None,
        give_up_after_s: float | None,
    ) -> None:
        self._tls = tls
        self._url = url
        self._parameters = parameters
        self._from_s = from_s
        self._token = token
        self._give_up_after_s = give_up_after_s
        self._position = FeedPosition()
        self._backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S)

    @property
    def missed(self) -> int:
        """Results that did not come because they were not read in time, or are not kept."""
        return self._position.missed

    async def __aiter__(self) -> AsyncIterator[Result]:
        loop = asyncio.get_running_loop()
        lost_at_s = loop.time()
        while True:
            try:
                connection = await open_connection(
                    self._connect_url(),
                    self._token,
                    max_message_bytes=_MAX_MESSAGE_BYTES,
                    tls=self._tls,
                )
            except FailedTry as failed:
                if not failed.may_retry:
                    raise failed.error from failed.__cause__
                reason = failed.error.message
            else:
                try:
                    while True:
                        message = await connection.recv()
                        # Only now: a server that accepts and closes at once is not called at once.
                        self._backoff.reset()
                        for result in self._take(message):
                            yield result
                except ConnectionClosed as closed:
                    reason = describe_close(closed)
                finally:
                    await connection.close()
                lost_at_s = loop.time()
                # 1000 is the end of the one stream requested; a feed of all streams has no end, so
                # there it is a server that stops.
                if "stream" in self._parameters and connection.close_code == CLOSE_NORMAL:
                    return
            waited_s = loop.time() - lost_at_s
            if self._give_up_after_s is not None and waited_s >= self._give_up_after_s:
                raise ConnectionFailedError(
                    f"no connection to {self._url} for {waited_s:.0f} s: {reason}",
                    remedy="Start the server, or correct the address.",
                )
            await asyncio.sleep(self._backoff.next_s())

    def _connect_url(self) -> str:
        """Return the URL for the next connection: the query, and what came already."""
        parameters = [*self._parameters.items()]
        after = self._position.after
        parameters += [("after", value) for value in after]
        if self._from_s is not None and not after:
            parameters.append(("from_s", f"{self._from_s:g}"))
        return f"{self._url}?{urlencode(parameters)}" if parameters else self._url

    def _take(self, message: str | bytes) -> list[Result]:
        # A server of a later version may send types that this one does not know.
        with contextlib.suppress(msgspec.MsgspecError):
            return self._position.take(decode_feed_message(message))
        return []


def _feed_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        is_valid = scheme in ("ws", "wss") and bool(parts.hostname)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise RefusedError(f"invalid URL '{url}'; expected e.g. ws://localhost:7860/feed")
    path = parts.path if parts.path.strip("/") else "/feed"
    return urlunsplit((scheme, parts.netloc, path, "", ""))
