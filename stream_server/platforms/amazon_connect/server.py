"""The HTTP port where contacts are announced, and the reading of their audio.

boto3 blocks, so a contact has a thread of its own, which reads and parses; the stream takes what
comes of it in the event loop. The thread waits for that, and Kinesis for the thread.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import structlog

from ser_engine.schema import CloseReason
from stream_server.access import Who
from stream_server.access.policy import team_of_stream
from stream_server.platforms.amazon_connect import AmazonConnectSettings, Announcement, ContactAudio
from stream_server.platforms.authenticators import TokenAuthenticator
from stream_server.platforms.route import Handshake, retry_after
from stream_server.streams.connection import failure, reason_of
from stream_server.streams.listeners import ListenerContext
from stream_server.streams.registry import RunningStream
from stream_server.streams.runner import TrackReport
from stream_server.wire.dialect import AudioData
from stream_server.wire.errors import ErrorCode, ProtocolError

_log = structlog.get_logger(__name__)

ROUTE = "amazon-connect"
PATH = f"/{ROUTE}"

_MAX_BODY_BYTES = 65_536
"""Longest event; attributes of a contact have 32 KB at most."""
_READ_BYTES = 256
"""boto3 waits until so many came: few, so that the end of a fragment is not kept back."""
_CONNECT_S = 5.0
_AGAIN_S = 1.0
"""Wait before another request, where one ended: Kinesis allows 5 a second and stream."""


class AmazonConnectServer:
    """A :class:`~stream_server.streams.listeners.Listener` for the announcements of contacts."""

    name = "amazon_connect"
    setting = "telephony.amazon_connect.port"
    is_optional = False

    def __init__(self, context: ListenerContext) -> None:
        self._context = context
        self._telephony = context.config.telephony
        self._settings = self._telephony.of(AmazonConnectSettings).amazon_connect
        self._authenticator = TokenAuthenticator(context.access)
        self.port = self._settings.port
        self._runner: Any = None  # aiohttp's AppRunner
        self._contacts: dict[str, _Contact] = {}
        self._video = _KinesisVideo(self._settings.end_after_s)
        self._draining = False

    async def start(self) -> None:
        """Listen. Raises OSError: the address cannot be had."""
        from aiohttp import web

        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_post(f"{PATH}{{token:.*}}", self._announced)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        self._runner = runner
        try:
            host, tls = self._context.config.listen.host, self._context.tls
            secured = None if tls is None else tls.context
            await web.TCPSite(runner, host, self.port, ssl_context=secured).start()
        except BaseException:
            await runner.cleanup()
            raise
        self.port = runner.addresses[0][1]

    async def aclose(self) -> None:
        self._draining = True
        if self._runner is not None:
            await self._runner.cleanup()
        goodbye = ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        try:
            async with asyncio.timeout(3 * self._context.config.limits.drain_timeout_s):
                await asyncio.gather(*(each.end(goodbye) for each in [*self._contacts.values()]))
        except TimeoutError:
            pass

    async def _announced(self, request: Any) -> Any:
        from aiohttp import web

        try:
            await self._begin(request)
        except ProtocolError as error:
            self._context.on_refused(ROUTE, error)
            if error.code is ErrorCode.UNAUTHORIZED:
                await asyncio.sleep(self._context.config.access.refusal_delay_ms / 1000)
            body = {"code": error.code.value, "message": str(error)}
            return web.json_response(
                body, status=error.kind.http_status, headers=retry_after(error)
            )
        return web.json_response({"accepted": True}, status=202)

    async def _begin(self, request: Any) -> None:
        """Begin to read the contact of a request; nothing if it is being read.

        Raises:
            ProtocolError: it may not be, or not now.
        """
        headers = {name.lower(): value for name, value in reversed([*request.headers.items()])}
        handshake = Handshake(
            request.path_qs,
            request.path,
            (),
            headers,
            request.remote or "",
            is_secure=self._context.tls is not None,
        )
        who = self._authenticator.authenticate(handshake)
        if self._draining:
            raise ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
        announced = Announcement.of(await request.read())
        # Lambda functions are called again when they fail.
        if announced.contact_id in self._contacts:
            return
        if not self._context.is_ready():
            raise ProtocolError(ErrorCode.NOT_READY, "the model is being loaded", retry_after_s=2.0)
        if find_spec("boto3") is None:
            raise ProtocolError(
                ErrorCode.NOT_READY,
                "this server cannot read from Kinesis without boto3; have the extra"
                " 'amazon-connect' installed on the server",
            )
        try:
            team = team_of_stream(who, (announced.parameters.get("team", ""),))
        except ValueError as error:
            raise ProtocolError(ErrorCode.FORBIDDEN, str(error)) from None
        announced.spec(self._telephony.roles, 2)  # Wrong roles are told now.
        self._context.registry.check_capacity(who.name)
        contact = _Contact(
            announced=announced,
            who=who,
            team=team,
            context=self._context,
            video=self._video,
            forget=self._forget,
        )
        self._contacts[announced.contact_id] = contact
        contact.begin()

    def _forget(self, contact_id: str) -> None:
        self._contacts.pop(contact_id, None)


def listen(context: ListenerContext) -> AmazonConnectServer | None:
    """See :data:`~stream_server.streams.listeners.Listen`."""
    is_off = context.config.telephony.of(AmazonConnectSettings).amazon_connect.port < 0
    return None if is_off else AmazonConnectServer(context)


class _KinesisVideo:
    """The requests to Kinesis Video Streams; credentials are found as boto3 does."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()  # Sessions of boto3 are not safe to share.
        self._session: Any = None
        self._clients: dict[tuple[str, str, str], Any] = {}

    def open(self, announced: Announcement, token: str) -> Any:
        """Return what yields the audio from the beginning of a contact, or after a token."""
        video = self._client("kinesisvideo", announced.region)
        endpoint = video.get_data_endpoint(StreamARN=announced.arn, APIName="GET_MEDIA")
        media = self._client("kinesis-video-media", announced.region, endpoint["DataEndpoint"])
        start = {"StartSelectorType": "NOW"}
        if token:
            start = {"StartSelectorType": "CONTINUATION_TOKEN", "ContinuationToken": token}
        elif announced.after:
            start = {
                "StartSelectorType": "FRAGMENT_NUMBER",
                "AfterFragmentNumber": announced.after,
            }
        return media.get_media(StreamARN=announced.arn, StartSelector=start)["Payload"]

    def _client(self, service: str, region: str, url: str = "") -> Any:
        import boto3
        from botocore.config import Config

        with self._lock:
            if self._session is None:
                self._session = boto3.session.Session()
            if (service, region, url) not in self._clients:
                config = Config(
                    connect_timeout=_CONNECT_S,
                    read_timeout=self._timeout_s,
                    # Each contact holds a connection as long as it lasts.
                    max_pool_connections=1000,
                )
                self._clients[service, region, url] = self._session.client(
                    service, region_name=region, endpoint_url=url or None, config=config
                )
            return self._clients[service, region, url]


class _Contact:
    """One contact: the thread that reads its audio, and its stream."""

    def __init__(
        self,
        *,
        announced: Announcement,
        who: Who,
        team: str,
        context: ListenerContext,
        video: _KinesisVideo,
        forget: Callable[[str], None],
    ) -> None:
        self._announced = announced
        self._who = who
        self._team = team
        self._context = context
        self._video = video
        self._forget = forget
        self._config = config = context.config
        self._end_after_s = config.telephony.of(AmazonConnectSettings).amazon_connect.end_after_s
        self._audio = ContactAudio(announced, max_jitter_ms=config.telephony.max_jitter_ms)
        self._loop = asyncio.get_running_loop()
        self._stream: RunningStream | None = None
        self._report: TrackReport | None = None
        self._beat_s = 0.0
        self._turn = asyncio.Lock()
        self._is_over = threading.Event()

    def begin(self) -> None:
        # Kinesis may keep a request open for long after the last audio: nothing waits for it.
        threading.Thread(target=self._read, name=ROUTE, daemon=True).start()

    # -- in the thread ----------------------------------------------------------------------------

    def _read(self) -> None:
        error: ProtocolError | None = None
        try:
            for pieces in self._pieces():
                if not self._call(self._put(pieces)):
                    return
        except ProtocolError as found:
            error = found
        except Exception:
            _log.exception("amazon_connect_failed")
            error = ProtocolError(ErrorCode.INTERNAL, "the server failed while reading")
        self._call(self._finish(error))

    def _call(self, what: Any) -> bool:
        """Do something in the event loop; return False if the stream is over."""
        try:
            asyncio.run_coroutine_threadsafe(what, self._loop).result()
        except RuntimeError:
            what.close()  # The loop is closed.
            return False
        return not self._is_over.is_set()

    def _pieces(self) -> Iterator[list[AudioData]]:
        """Yield the audio of the contact until there is no more.

        Raises:
            ProtocolError: it cannot be read.
        """
        import botocore.exceptions

        problem = ""
        heard_s = time.monotonic()
        while not self._audio.is_over and time.monotonic() - heard_s < self._end_after_s:
            try:
                for pieces in self._response():
                    heard_s, problem = time.monotonic(), ""
                    yield pieces
                problem = self._audio.error_code or problem
            except botocore.exceptions.ClientError as error:
                problem = str(error.response.get("Error", {}).get("Code", "?"))
            except botocore.exceptions.BotoCoreError as error:
                # A wait that was too long is how a contact ends; its loop says so.
                problem = problem or type(error).__name__
            if self._is_over.wait(0.0 if self._audio.is_over else _AGAIN_S):
                return
        if problem and self._stream is None:
            raise ProtocolError(
                ErrorCode.IDLE,
                f"got no audio from Kinesis for {self._end_after_s:g} s: {problem}",
            )

    def _response(self) -> Iterator[list[AudioData]]:
        """Yield the audio of one response of Kinesis. Raises exceptions of botocore."""
        body = self._video.open(self._announced, self._audio.token)
        self._audio.begin_response()
        while not self._audio.is_over and (data := body.read(_READ_BYTES)):
            if pieces := self._audio.receive(data):
                yield pieces
        body.close()

    # -- in the event loop ------------------------------------------------------------------------

    async def _put(self, pieces: Sequence[AudioData]) -> None:
        async with self._turn:
            try:
                await self._hand_over(pieces)
            except ProtocolError as error:
                if error.ends_stream:
                    await self._close(error)
            except Exception:
                stream_id = "" if self._stream is None else self._stream.stream_id
                await self._close(failure(stream_id))

    async def _hand_over(self, pieces: Sequence[AudioData]) -> None:
        if self._is_over.is_set() or not pieces:
            return
        if self._stream is None:
            spec = self._announced.spec(self._config.telephony.roles, self._audio.num_channels)
            self._stream = self._context.registry.open(
                replace(spec, team=self._team), self._who, self, route=ROUTE
            )
            self._report = TrackReport(self._stream.runner)
        for piece in pieces:
            await self._stream.runner.handle(piece)
        now_s = self._loop.time()
        if now_s >= self._beat_s:
            self._stream.runner.heartbeat()  # Not sent to anyone; it updates the lag in /metrics.
            assert self._report is not None
            self._report.check(self._audio.stats)
            self._beat_s = now_s + self._config.streams.heartbeat_ms / 1000

    async def _finish(self, error: ProtocolError | None) -> None:
        async with self._turn:
            await self._close(error)

    async def end(self, error: ProtocolError) -> None:
        """End the stream for a reason of this side; what is said later is not read."""
        async with self._turn:
            await self._close(error)

    async def _close(self, error: ProtocolError | None) -> None:
        if self._is_over.is_set():
            return
        reason: CloseReason = reason_of(error)
        if error is not None and error.code is not ErrorCode.SHUTTING_DOWN:
            _log.warning("amazon_connect_ended", code=error.code.value, reason=str(error))
            if self._stream is None:
                self._context.on_refused(ROUTE, error)
        try:
            # An engine that hangs must not keep the contact from ending.
            async with asyncio.timeout(self._config.limits.drain_timeout_s):
                await self._hand_over(self._audio.flush())
        except (ProtocolError, TimeoutError):
            pass  # The stream ends in any case.
        self._is_over.set()
        self._forget(self._announced.contact_id)
        if self._stream is None or self._report is None:
            return
        self._report.end(self._audio.stats)
        if not self._stream.runner.has_ended():
            await self._context.registry.close(self._stream, reason)
