"""Read a server's results: ``async for result in emotion_feed()``.

The connection is made again whenever it is lost, and the server is asked for what came meanwhile.
Needs ``websockets`` and ``msgspec``; no torch.

Where a subscriber is in a feed, over any number of connections. Without I/O.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection
from urllib.parse import urlencode, urlsplit, urlunsplit

import msgspec
from websockets.asyncio.client import connect
from websockets.exceptions import (
    ConnectionClosed,
    InvalidHandshake,
    InvalidStatus,
)

from mic_client.errors import AccessError, ConnectionFailedError, RefusedError
from stream_server.wire.backoff import Backoff
from stream_server.wire.errors import CLOSE_NORMAL
from stream_server.wire.feed_messages import Dropped, FeedMessage, Snapshot, decode_feed_message
from stream_server.wire.messages import Error
from stream_server.wire.results import Result, StreamClosed

MAX_STREAMS = 256
"""Streams a server catches a subscriber up on; of more the one longest silent is forgotten."""


class FeedPosition:
    """What came so far, so that nothing comes twice and the next connection asks for the rest."""

    def __init__(self) -> None:
        self._last_seqs: OrderedDict[str, int] = OrderedDict()
        self._missed = 0

    @property
    def missed(self) -> int:
        """Results that did not come because they were not read in time, or are not kept."""
        return self._missed

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
                self._missed += message.results
                return []
            case _:
                return [message] if self._is_new(message) else []

    def _is_new(self, result: Result) -> bool:
        if result.seq <= self._last_seqs.get(result.stream_id, -1):
            return False
        self._last_seqs[result.stream_id] = result.seq
        self._last_seqs.move_to_end(result.stream_id)
        if isinstance(result, StreamClosed):
            del self._last_seqs[result.stream_id]
        elif len(self._last_seqs) > MAX_STREAMS:
            self._last_seqs.popitem(last=False)
        return True


_FIRST_DELAY_S = 0.5
_LONGEST_DELAY_S = 30.0
_MAX_MESSAGE_BYTES = 1 << 24
"""Of a snapshot of thousands of streams."""

_WORTH_RETRYING = (408, 429, 500, 502, 503, 504)


def emotion_feed(
    url: str = "ws://localhost:7860/feed",
    *,
    stream: str | None = None,
    types: Collection[str] = (),
    roles: Collection[str] = (),
    from_s: float | None = None,
    frames: bool = False,
    token: str = "",
    give_up_after_s: float | None = 60.0,
) -> EmotionFeed:
    """Return a feed to iterate over.

    Args:
        url: of the server's HTTP port; ``http://`` will do, and the path may be left out.
        stream: id of the one stream wanted, with which the feed ends; None: all.
        types: of results, e.g. ``("point", "alert")``; none: every type.
        roles: of channels, e.g. ``("driver",)``; none: every role.
        from_s: begin with what is stored of ``stream`` from here on; None: with now.
        frames: give points their frames.
        token: access token, where the server wants one.
        give_up_after_s: longest time without a connection; None: try for ever.

    Raises:
        RefusedError: the URL is none.
    """
    return EmotionFeed(
        url,
        stream=stream,
        types=types,
        roles=roles,
        from_s=from_s,
        frames=frames,
        token=token,
        give_up_after_s=give_up_after_s,
    )


class EmotionFeed:
    """A feed; made by :func:`emotion_feed`.

    Iterating yields results in order: those of a snapshot of the live streams first (or the stored
    ones, with ``from_s``), then each as it is published. It raises:

    - ``AccessError``: the token is missing or wrong, or the origin is not allowed;
    - ``RefusedError``: the server knows no such stream, or does not understand what is asked for;
    - ``ConnectionFailedError``: there was no connection for ``give_up_after_s``.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: str | None,
        types: Collection[str],
        roles: Collection[str],
        from_s: float | None,
        frames: bool,
        token: str,
        give_up_after_s: float | None,
    ) -> None:
        self._url = _feed_url(url)
        self._parameters = [
            (name, value)
            for name, value in (
                ("stream", stream or ""),
                ("types", ",".join(types)),
                ("roles", ",".join(roles)),
                ("frames", "true" if frames else ""),
            )
            if value
        ]
        self._has_end = stream is not None
        self._from_s = from_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
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
                async with connect(
                    self._connect_url(),
                    additional_headers=self._headers,
                    compression=None,
                    max_size=_MAX_MESSAGE_BYTES,
                ) as connection:
                    with contextlib.suppress(ConnectionClosed):
                        while True:
                            message = await connection.recv()
                            self._backoff.reset()
                            for result in self._take(message):
                                yield result
                    lost_at_s = loop.time()
                    if self._has_end and connection.close_code == CLOSE_NORMAL:
                        return
                reason = f"it was closed with {connection.close_code}"
            except InvalidStatus as error:
                reason = _check_status(error)
            except (OSError, InvalidHandshake, ConnectionClosed, TimeoutError) as error:
                reason = str(error) or type(error).__name__
            waited_s = loop.time() - lost_at_s
            if self._give_up_after_s is not None and waited_s >= self._give_up_after_s:
                raise ConnectionFailedError(
                    f"got no connection to {self._url} for {waited_s:.0f} s: {reason}",
                    remedy="Start the server, or correct the address.",
                )
            await asyncio.sleep(self._backoff.next_s())

    def _connect_url(self) -> str:
        """Return the URL for the next connection: what is asked for, and what came already."""
        parameters = list(self._parameters)
        after = self._position.after
        parameters += [("after", value) for value in after]
        if self._from_s is not None and not after:
            parameters.append(("from_s", f"{self._from_s:g}"))
        return f"{self._url}?{urlencode(parameters)}" if parameters else self._url

    def _take(self, message: str | bytes) -> list[Result]:
        try:
            return self._position.take(decode_feed_message(message))
        except msgspec.MsgspecError:
            # Of a newer server: what is not known is ignored.
            return []


def _feed_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
        if scheme not in ("ws", "wss") or not parts.hostname:
            raise ValueError
    except ValueError:
        raise RefusedError(
            f"got the URL '{url}', expected one such as ws://localhost:7860/feed"
        ) from None
    path = parts.path if parts.path.strip("/") else "/feed"
    return urlunsplit((scheme, parts.netloc, path, "", ""))


def _check_status(error: InvalidStatus) -> str:
    """Raise what another connection would meet again; return the reason of the rest."""
    response = error.response
    try:
        told = msgspec.json.decode(bytes(response.body or b""), type=Error)
    except msgspec.MsgspecError:
        told = Error(code="", message=f"got HTTP status {response.status_code}", remedy="")
    if response.status_code in _WORTH_RETRYING:
        return told.message
    kind = AccessError if response.status_code in (401, 403) else RefusedError
    raise kind(told.message, code=told.code, remedy=told.remedy) from None
