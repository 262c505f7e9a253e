"""A driver's emotion as signals of a car (COVESA VSS), in an Eclipse Kuksa databroker.

The Vehicle Signal Specification has nothing for emotion (its ``Vehicle.Driver`` knows fatigue,
distraction and attention), so the signals are an overlay, ``deploy/vss/emotion.json``, that the
databroker loads beside the standard ones::

    PREFIX.IsMonitored   boolean   somebody with the role is streamed
    PREFIX.Label         string    ANGRY, …, NEUTRAL, or UNCLEAR
    PREFIX.Confidence    float     of the label, percent
    PREFIX.Lasting       string    as Label: how most of the last half minute of speech was

They go by the databroker's gRPC protocol, ``kuksa.val.v2``, of which this needs one call. What
waits is bounded: of each signal only the latest value is kept, and told when the databroker is
there. Needs the extra ``vss``.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import struct
from typing import Any, Self
from urllib.parse import urlsplit

import structlog

from ser_engine.errors import ConfigError, how_to_install
from ser_engine.timeline.course import StateTracker
from stream_server.bus import Bus
from stream_server.config import FeedsConfig
from stream_server.metrics import Metrics
from stream_server.wire.errors import Backoff
from stream_server.wire.results import Point, Result, StreamClosed, StreamOpened

Value = bool | float | str

UNCLEAR = "UNCLEAR"
_METHOD = "/kuksa.val.v2.VAL/PublishValue"
_DEFAULT_PORT = 55_555
_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 5.0
_BATCH = 64

_log = structlog.get_logger(__name__)


def publish_request(path: str, value: Value) -> bytes:
    """Return a ``PublishValueRequest`` of kuksa.val.v2, as protocol buffers encode it.

    Fields: ``signal_id`` 1 with ``path`` 2; ``data_point`` 2 with ``value`` 2, which has a
    ``string`` 11, ``bool`` 12 or ``float`` 17. Without a time the databroker takes its own.
    """
    if isinstance(value, bool):
        encoded = b"\x60" + bytes([value])
    elif isinstance(value, str):
        encoded = _field(11, value.encode())
    else:
        encoded = b"\x8d\x01" + struct.pack("<f", value)
    return _field(1, _field(2, path.encode())) + _field(2, _field(2, encoded))


def _field(number: int, data: bytes) -> bytes:
    """Return a field that has a length."""
    length, size = b"", len(data)
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


class DriverSignals:
    """What the signals are after each result. Knows neither network nor clock.

    Attributes:
        values: by the last part of their paths.
    """

    def __init__(self, role: str) -> None:
        self.values: dict[str, Value] = {}
        self._role = role
        self._stream = ""  # the one that is told of: of several the latest
        self._channel = 0
        self._lasting = StateTracker()
        self._nobody()

    def take(self, result: Result) -> None:
        """Take a result of any stream."""
        match result:
            case StreamOpened():
                channels = [each for each in result.channels if each.role == self._role]
                if channels and channels[0].analysed:
                    self._nobody()
                    self._stream, self._channel = result.stream_id, channels[0].index
                    self._lasting = StateTracker()
                    self.values["IsMonitored"] = True
            case Point(stream_id=self._stream, channel=self._channel):
                self.values["Label"] = _label(result.label)
                self.values["Confidence"] = round(100 * result.confidence, 1)
                self.values["Lasting"] = _label(self._lasting.point(result).label)
            case StreamClosed(stream_id=self._stream):
                self._stream = ""
                self._nobody()

    def _nobody(self) -> None:
        self.values = {
            "IsMonitored": False,
            "Label": UNCLEAR,
            "Confidence": 0.0,
            "Lasting": UNCLEAR,
        }


def _label(label: str | None) -> str:
    return UNCLEAR if label is None else label.upper()


class VssPublisher:
    """Publishes while it is entered (``async with``), whether or not the databroker is there.

    Raises:
        ConfigError: the URL names no host, or the package is missing.
    """

    def __init__(
        self, feeds: FeedsConfig, *, bus: Bus, metrics: Metrics, rng: random.Random | None = None
    ) -> None:
        parts = urlsplit(feeds.vss_url)
        if not parts.hostname:
            raise ConfigError(
                f"got feeds.vss_url '{feeds.vss_url}', expected grpc://HOST:PORT or grpcs://…"
            )
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self._target = f"{host}:{parts.port or _DEFAULT_PORT}"
        self._is_secure = parts.scheme == "grpcs"
        self._metadata = (
            (("authorization", f"Bearer {feeds.vss_token}"),) if feeds.vss_token else ()
        )
        self._prefix = feeds.vss_prefix
        try:
            self._grpc: Any = importlib.import_module("grpc")
            importlib.import_module("grpc.aio")
        except ModuleNotFoundError:
            raise ConfigError(
                f"feeds.vss_url needs a package that is not installed; {how_to_install('vss')}"
            ) from None
        self._metrics = metrics
        self._backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S, rng)
        self._signals = DriverSignals(feeds.vss_role)
        self._told: dict[str, Value] = {}
        self._is_connected = False
        self._changed = asyncio.Event()
        self._is_closing = False
        self._subscription = bus.subscribe(name="vss", capacity=feeds.mailbox_size)
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._changed.set()
        self._tasks = [
            asyncio.create_task(self._read(), name="vss reader"),
            asyncio.create_task(self._run(), name="vss"),
        ]
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Tell that nobody is monitored any more, for 5 s at most."""
        self._subscription.close()
        self._signals = DriverSignals("")
        self._is_closing = True
        self._changed.set()
        _, late = await asyncio.wait(self._tasks, timeout=_STOP_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self) -> None:
        while results := await self._subscription.batch(_BATCH):
            for result in results:
                self._signals.take(result)
            self._changed.set()

    async def _run(self) -> None:
        while True:
            try:
                async with self._channel() as channel:
                    await self._publish_all(channel)
            except self._grpc.aio.AioRpcError as error:
                self._connected(False)
                if self._is_closing:
                    return
                delay_s = self._backoff.next_s()
                code = error.code().name.lower()
                _log.warning("vss_lost", code=code, attempt=self._backoff.attempts)
                await asyncio.sleep(delay_s)
            if self._is_closing:
                break
        self._connected(False)

    async def _publish_all(self, channel: Any) -> None:
        """Tell what is not told yet, until the end or until the databroker is lost."""
        publish = channel.unary_unary(_METHOD)
        # A databroker that was restarted has lost what it was told.
        self._told = {}
        gone: asyncio.Task[None] | None = None
        try:
            while True:
                await self._tell(publish)
                self._backoff.reset()
                self._connected(True)
                if self._is_closing:
                    return
                if gone is None:
                    # It may be back before there is something to tell: only this shows it.
                    ready = self._grpc.ChannelConnectivity.READY
                    gone = asyncio.create_task(channel.wait_for_state_change(ready))
                changed = asyncio.create_task(self._changed.wait())
                try:
                    await asyncio.wait((gone, changed), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    changed.cancel()
                if gone.done():
                    return
        finally:
            if gone is not None:
                gone.cancel()

    async def _tell(self, publish: Any) -> None:
        """Tell what has changed, and what changes meanwhile."""
        self._changed.set()
        while self._changed.is_set():
            self._changed.clear()
            for name, value in self._signals.values.items():
                if self._told.get(name) != value:
                    request = publish_request(f"{self._prefix}.{name}", value)
                    await publish(request, metadata=self._metadata, timeout=_TIMEOUT_S)
                    self._told[name] = value

    def _connected(self, connected: bool) -> None:
        if connected and not self._is_connected:
            _log.info("vss_connected")
        self._is_connected = connected
        self._metrics.vss_connected.set(connected)

    def _channel(self) -> Any:
        # Its own attempts to connect would go on in the background; ours are counted.
        options = (("grpc.enable_retries", 0),)
        if not self._is_secure:
            return self._grpc.aio.insecure_channel(self._target, options=options)
        credentials = self._grpc.ssl_channel_credentials()
        return self._grpc.aio.secure_channel(self._target, credentials, options=options)
