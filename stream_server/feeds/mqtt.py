"""Results published to an MQTT broker.

::

    TOPIC/status                 "online" or "offline", retained; the broker's will says the latter
    TOPIC/STREAM/TYPE            each result, as in the other feeds, e.g. .../point, .../alert
    TOPIC/STREAM/state           the state of a live stream, retained; removed when it ends

A ``{team}`` in TOPIC is the team of the stream, "-" for one without, so that the broker's rules can
part the teams; the status, which tells of no stream, has a topic without it. What Home Assistant
needs to find the streams is published as well if wanted: :mod:`stream_server.feeds.discovery`.

A subscriber of the bus like any other: while the broker is away or slow, results wait in a bounded
mailbox, then the oldest points are dropped and counted. Needs the extra ``mqtt``.
"""

from __future__ import annotations

import asyncio
import importlib
import random
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import msgspec
import structlog
from msgspec import structs

from ser_engine.errors import ConfigError, how_to_install
from ser_engine.schema import LastingState
from ser_engine.timeline.course import StateTracker
from stream_server.bus import Bus
from stream_server.config import FeedsConfig
from stream_server.feeds.discovery import Discovery
from stream_server.metrics import Metrics
from stream_server.wire.errors import Backoff
from stream_server.wire.feed_messages import result_type
from stream_server.wire.results import Alert, Point, Result, StreamClosed, StreamOpened, Summary


class ChannelState(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of a :class:`StreamState`.

    Attributes:
        label: the stable label of its last point; None: unclear.
        best: the label, or the likeliest one, when it became so.
        confidence: its posterior, 0 to 1, then.
        since_s: where the label began, on the stream's clock.
        state: how it has been for the last half minute of speech, when it became so.
    """

    channel: int
    role: str
    label: str | None
    best: str
    confidence: float
    since_s: float
    state: LastingState = LastingState()


class StreamState(msgspec.Struct, frozen=True, kw_only=True):
    """What is retained of a live stream.

    Attributes:
        seq: of the result that changed it last.
        channels: those with a point so far, by index.
        alerts: names of the rules that hold.
    """

    stream_id: str
    seq: int
    channels: tuple[ChannelState, ...] = ()
    alerts: tuple[str, ...] = ()


def next_state(
    state: StreamState | None, result: Result, lasting: LastingState | None = None
) -> StreamState | None:
    """Return the state of a stream after a result; the same object if nothing changed.

    ``lasting``: of the channel of a point, with that point.
    """
    lasting = lasting or LastingState()
    match result:
        case StreamOpened():
            return StreamState(stream_id=result.stream_id, seq=result.seq)
        case Point() if state is not None:
            before = {one.channel: one for one in state.channels}
            known = before.get(result.channel)
            # A retained message is for what changes rarely: the points themselves are published.
            if known is not None and known.label == result.label:
                if known.state == lasting:
                    return state
                before[result.channel] = structs.replace(known, state=lasting)
                return structs.replace(state, seq=result.seq, channels=_in_order(before))
            before[result.channel] = ChannelState(
                channel=result.channel,
                role=result.role,
                label=result.label,
                best=result.best,
                confidence=result.confidence,
                since_s=result.start_s,
                state=lasting,
            )
            return structs.replace(state, seq=result.seq, channels=_in_order(before))
        case Alert() if state is not None:
            others = tuple(rule for rule in state.alerts if rule != result.rule)
            alerts = (*others, result.rule) if result.state == "raised" else others
            return structs.replace(state, seq=result.seq, alerts=alerts)
        case _:
            return state


def _in_order(channels: dict[int, ChannelState]) -> tuple[ChannelState, ...]:
    return tuple(channels[index] for index in sorted(channels))


_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_BATCH = 64
_TEAM = "{team}"
_NO_TEAM = "-"  # No team is called so: their names begin with a letter or digit.
_NOT_TO_BE_LOST = (StreamOpened, Alert, Summary, StreamClosed)
"""Sent with quality of service 1, at least once; the rest with 0: the next point comes anyway."""

_log = structlog.get_logger(__name__)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Broker:
    """Address and credentials of a broker."""

    host: str
    port: int
    tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse_mqtt_url(url: str) -> Broker:
    """Return the broker of ``feeds.mqtt_url``; default ports are 1883, and 8883 with TLS.

    Raises:
        ConfigError: the URL names no broker.
    """
    try:
        parts = urlsplit(url)
        tls = parts.scheme == "mqtts"
        port = parts.port or (8883 if tls else 1883)
    except ValueError:
        parts, tls, port = urlsplit(""), False, 0
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname:
        # Not the URL itself: it may hold a password.
        raise ConfigError(
            "feeds.mqtt_url names no broker; expected e.g. mqtt://USER:PASSWORD@HOST:PORT"
        )
    return Broker(
        host=parts.hostname,
        port=port,
        tls=tls,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


class MqttPublisher:
    """Publishes while it is entered (``async with``), whether or not the broker is there.

    ``rng`` spreads connections in time.

    Raises:
        ConfigError: URL, topic or prefix is wrong, or the package is missing.
    """

    def __init__(
        self, feeds: FeedsConfig, *, bus: Bus, metrics: Metrics, rng: random.Random | None = None
    ) -> None:
        self._broker = parse_mqtt_url(feeds.mqtt_url)
        self._levels = _levels("feeds.mqtt_topic", feeds.mqtt_topic)
        own = [level for level in self._levels if level != _TEAM]
        self._status_topic = "/".join((*own, "status"))
        # Of the streams that are live: results after the first do not say whose they are.
        self._opened: dict[str, StreamOpened] = {}
        self._discovery: Discovery | None = None
        if feeds.mqtt_discovery_streams:
            prefix = _levels("feeds.mqtt_discovery_prefix", feeds.mqtt_discovery_prefix)
            if _TEAM in self._levels and _TEAM not in prefix:
                # What parts the results of teams must part what tells of their streams.
                raise ConfigError(
                    f"feeds.mqtt_discovery_prefix '{feeds.mqtt_discovery_prefix}' must have a level"
                    f" {_TEAM}, as feeds.mqtt_topic has"
                )
            self._discovery = Discovery(prefix, "-".join(own), feeds.mqtt_discovery_streams)
        self._announced: dict[str, dict[str, bytes]] = {}  # payloads by topic, by stream
        self._metrics = metrics
        self._backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S, rng)
        try:
            self._aiomqtt: Any = importlib.import_module("aiomqtt")
        except ModuleNotFoundError:
            raise ConfigError(
                f"feeds.mqtt_url needs a package that is not installed; {how_to_install('mqtt')}"
            ) from None
        self._subscription = bus.subscribe(name="mqtt", capacity=feeds.mailbox_size)
        self._states: dict[str, StreamState] = {}
        self._trackers: dict[tuple[str, int], StateTracker] = {}
        self._unsent: list[Result] = []
        self._is_done = False
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run(), name="mqtt")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Publish what waits and remove the states, for 5 s at most."""
        assert self._task is not None
        self._unsent += self._subscription.take_waiting()
        self._subscription.close()
        _, late = await asyncio.wait((self._task,), timeout=_STOP_TIMEOUT_S)
        for task in late:
            task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def forget(self, stream_id: str, team: str) -> None:
        """Remove what the broker retains of a stream that has ended, if the broker is there.

        A server that was killed leaves the states of its live streams there.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S), self._client(will=None) as client:
                # Section 3.3.1.3: without a payload it removes what was retained before.
                for topic in self._discovery_topics(stream_id, team):
                    await client.publish(topic, b"", qos=1, retain=True)
                topic = self._topic_of(stream_id, "state", team)
                await client.publish(topic, b"", qos=1, retain=True)
        except (self._aiomqtt.MqttError, OSError, TimeoutError) as error:
            _log.warning("mqtt_state_not_removed", stream_id=stream_id, error=type(error).__name__)

    async def _run(self) -> None:
        while not self._is_done:
            try:
                await self._publish_all()
            except (self._aiomqtt.MqttError, OSError) as error:
                delay_s = self._backoff.next_s()
                _log.warning(
                    "mqtt_lost", error=type(error).__name__, attempt=self._backoff.attempts
                )
                await asyncio.sleep(delay_s)
            finally:
                self._metrics.mqtt_connected.set(0)

    async def _publish_all(self) -> None:
        """Connect and publish what there is until the bus closes, or the broker is lost."""
        offline = self._aiomqtt.Will(self._status_topic, b"offline", qos=1, retain=True)
        async with self._client(will=offline) as client:
            self._backoff.reset()
            self._metrics.mqtt_connected.set(1)
            _log.info("mqtt_connected")
            publishing = asyncio.create_task(self._pump(client), name="mqtt publisher")
            # While there is nothing to publish, only reading shows that the broker is gone.
            listening = asyncio.create_task(self._listen(client), name="mqtt listener")
            try:
                await asyncio.wait((publishing, listening), return_when=asyncio.FIRST_COMPLETED)
                if listening.done():
                    listening.result()
                await publishing
            finally:
                publishing.cancel()
                listening.cancel()
                await asyncio.gather(publishing, listening, return_exceptions=True)
        self._is_done = True

    async def _pump(self, client: Any) -> None:
        await client.publish(self._status_topic, b"online", qos=1, retain=True)
        for stream_id in self._states:
            # A broker that was restarted may have lost what it retained.
            await self._publish_state(client, stream_id)
            await self._announce(client, stream_id)
        if self._discovery is not None:
            prefix = ["+" if level == _TEAM else level for level in self._discovery.prefix]
            await client.subscribe("/".join((*prefix, "sensor", "+", "config")), qos=1)
        while self._unsent or await self._next():
            # Removed after it is sent, so that a result is not lost with the connection. It may be
            # sent twice instead, as quality of service 1 allows.
            await self._publish(client, self._unsent[0])
            self._unsent.pop(0)
        # The bus is closed: the server stops, and no stream is live any more.
        for stream_id in list(self._states):
            await self._renounce(client, stream_id)
            del self._states[stream_id]
            await self._publish_state(client, stream_id)
        await client.publish(self._status_topic, b"offline", qos=1, retain=True)

    def _client(self, will: Any) -> Any:
        broker = self._broker
        return self._aiomqtt.Client(
            broker.host,
            broker.port,
            username=broker.username,
            password=broker.password,
            will=will,
            tls_context=ssl.create_default_context() if broker.tls else None,
            timeout=_TIMEOUT_S,
        )

    async def _next(self) -> bool:
        self._unsent += await self._subscription.batch(_BATCH)
        return bool(self._unsent)

    def _topic_of(self, stream_id: str, kind: str, team: str | None = None) -> str:
        if team is None:
            opened = self._opened.get(stream_id)
            team = "" if opened is None else opened.team
        return "/".join((*_of_team(self._levels, team), stream_id, kind))

    def _discovery_topics(self, stream_id: str, team: str) -> list[str]:
        if self._discovery is None:
            return []
        prefix = "/".join(_of_team(self._discovery.prefix, team))
        return self._discovery.topics(stream_id, prefix=prefix)

    async def _publish(self, client: Any, result: Result) -> None:
        if isinstance(result, StreamOpened):
            self._opened[result.stream_id] = result
        topic = self._topic_of(result.stream_id, result_type(result))
        qos = 1 if isinstance(result, _NOT_TO_BE_LOST) else 0
        await client.publish(topic, _encode(result), qos=qos)
        if isinstance(result, StreamClosed):
            self._states.pop(result.stream_id, None)
            for key in [key for key in self._trackers if key[0] == result.stream_id]:
                del self._trackers[key]
            # The sensors first: they could not read a state without payload.
            await self._renounce(client, result.stream_id)
            await self._publish_state(client, result.stream_id)
            self._opened.pop(result.stream_id, None)
            return
        before = self._states.get(result.stream_id)
        lasting = None
        if isinstance(result, Point):
            key = (result.stream_id, result.channel)
            # A result that is sent again after a lost connection is counted twice; it is half a
            # second of half a minute.
            lasting = self._trackers.setdefault(key, StateTracker()).point(result)
        after = next_state(before, result, lasting)
        if after is not None and after is not before:
            self._states[result.stream_id] = after
            await self._publish_state(client, result.stream_id)
        if isinstance(result, StreamOpened):
            self._plan_announcement(result)
            await self._announce(client, result.stream_id)

    def _plan_announcement(self, opened: StreamOpened) -> None:
        if self._discovery is None or opened.stream_id in self._announced:
            return
        if len(self._announced) >= self._discovery.max_streams:
            _log.warning(
                "mqtt_stream_not_announced",
                stream_id=opened.stream_id,
                max_streams=self._discovery.max_streams,
            )
            return
        self._announced[opened.stream_id] = self._discovery.configs(
            opened,
            prefix="/".join(_of_team(self._discovery.prefix, opened.team)),
            state_topic=self._topic_of(opened.stream_id, "state"),
            status_topic=self._status_topic,
        )

    async def _listen(self, client: Any) -> None:
        """Wait until the connection is lost, which raises; remove what a server left behind.

        That is what was announced by this server before it was killed: it comes as retained. What
        is published now comes without that flag (MQTT 3.1.1, 3.3.1.3).
        """
        async for message in client.messages:
            topic = str(message.topic)
            is_live = any(topic in topics for topics in self._announced.values())
            if self._discovery is None or is_live or not message.retain:
                continue
            if self._discovery.is_own(topic):
                await client.publish(topic, b"", qos=1, retain=True)

    async def _announce(self, client: Any, stream_id: str) -> None:
        for topic, payload in self._announced.get(stream_id, {}).items():
            await client.publish(topic, payload, qos=1, retain=True)

    async def _renounce(self, client: Any, stream_id: str) -> None:
        for topic in self._announced.get(stream_id, {}):
            await client.publish(topic, b"", qos=1, retain=True)
        # Not before it is sent: a connection may be lost meanwhile, and the result come again.
        self._announced.pop(stream_id, None)

    async def _publish_state(self, client: Any, stream_id: str) -> None:
        """Publish the state of a stream, or remove it if the stream has ended."""
        state = self._states.get(stream_id)
        # MQTT 3.1.1, 3.3.1.3: a retained message without payload removes the one retained before.
        payload = b"" if state is None else _encode(state)
        await client.publish(self._topic_of(stream_id, "state"), payload, qos=1, retain=True)


def _levels(setting: str, topic: str) -> list[str]:
    """Return the levels of a topic to publish below.

    Raises:
        ConfigError: it cannot be published to.
    """
    levels = topic.strip("/").split("/")
    own = "".join(level for level in levels if level != _TEAM)
    if not own or set("+#{}") & set(own):
        raise ConfigError(
            f"{setting} '{topic}' must have a name, no wildcard (+ or #), and {_TEAM} as a level by"
            " itself or not at all"
        )
    return levels


def _of_team(levels: Sequence[str], team: str) -> list[str]:
    return [team or _NO_TEAM if level == _TEAM else level for level in levels]
