"""The server's settings: the ``stream_server`` section of ``config.yaml`` as frozen dataclasses.

As in :mod:`ser_engine.config`, a field says all about a setting. A capability keeps its settings
beside its code: access, alerts, telephone platforms.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from stream_server.access import AccessConfig, ListenConfig
from stream_server.alerts import AlertsConfig
from stream_server.platforms import TelephonyConfig
from stream_server.rights import RightsConfig


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """Limits of what the server accepts."""

    max_streams: Annotated[int, Range(1, 100_000)] = 256
    """Streams at a time, including those that may be resumed."""
    max_streams_per_address: Annotated[int, Range(1, 100_000)] = 192
    """Streams of tokens from one address at a time, so that one machine cannot take all places."""
    max_streams_per_token: Annotated[int, Range(1, 100_000)] = 128
    """Streams of one access token at a time, on all servers of one bus together."""
    max_message_bytes: Annotated[int, Range(1024, 1 << 24)] = 1_048_576
    """Largest message."""
    max_messages_per_s: Annotated[int, Range(1, 100_000)] = 500
    """Messages a second of one connection; a burst of ten seconds' worth is accepted."""
    max_http_connections: Annotated[int, Range(16, 100_000)] = 512
    """Connections of the HTTP port; beyond that, the connection that has been idle longest is
    closed."""
    start_timeout_s: Annotated[float, Range(0.1, 300)] = 10.0
    """Longest wait for the first message."""
    idle_timeout_s: Annotated[float, Range(1, 86_400)] = 60.0
    """Longest time without audio or ``keepalive``."""
    max_stream_s: Annotated[float, Range(1, 604_800)] = 14_400.0
    """Longest audio of one stream."""
    resume_window_s: Annotated[float, Range(0, 3600)] = 30.0
    """How long a client that lost its connection may come back and continue. On a full server it
    may be less, because such streams give their places to new ones."""
    max_waiting_streams_per_client: Annotated[int, Range(1, 100_000)] | None = None
    """Streams of one access token, and of one address, that may wait for a lost client at a time;
    beyond that the oldest end at once. null: as many streams as the token or address may have, so
    that a gateway that lost its connection can continue all its calls."""
    max_kept_results: Annotated[int, Range(64, 1_000_000)] = 512
    """Results of a stream kept for a client that reads slowly or comes back."""
    drain_timeout_s: Annotated[float, Range(0.1, 300)] = 10.0
    """Longest wait for the last results of streams when the server stops."""

    def __post_init__(self) -> None:
        check_fields(self, "limits")


@dataclass(frozen=True, slots=True)
class ProcessesConfig:
    """How many processes the server runs in."""

    workers: Annotated[int, Range(0, 64)] = 0
    """Processes that take in streams, beside one for the engine and one for everything else. 0: all
    in one process. See docs/how-to/deploy.md."""

    def __post_init__(self) -> None:
        check_fields(self, "processes")


@dataclass(frozen=True, slots=True)
class StreamsConfig:
    """What is done with every stream."""

    analyse_roles: tuple[str, ...] = ("speaker", "customer", "caller", "driver", "passenger")
    """Roles that are analysed, live and in files. ``agent`` is not among them: see
    docs/explanation/law.md. Nor is ``mixed``, a channel that several people share, such as a mono
    recording of a call, because its analysis would include the agent."""
    measures: Literal["all", "analysed", "off"] = "all"
    """Which channels are measured (talk time, interruptions, pace, level, pitch). all: every
    channel, but for channels that are not analysed only when somebody speaks; analysed: the
    analysed channels; off: none."""
    heartbeat_ms: Annotated[int, Range(100, 60_000)] = 1000
    """Time between heartbeats."""

    def __post_init__(self) -> None:
        check_fields(self, "streams")
        if not self.analyse_roles:
            raise ConfigError("got no streams.analyse_roles, expected at least one role")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where timelines are kept."""

    url: str = "sqlite:///~/.local/share/emotion-monitor/timelines.db"
    """SQLAlchemy URL: a SQLite file, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE. "": no
    store; results are lost when the server ends."""
    write_interval_ms: Annotated[int, Range(10, 10_000)] = 500
    """Longest time a result waits to be written."""
    max_pending_results: Annotated[int, Range(1000, 100_000_000)] = 200_000
    """Results that may wait while the database does not answer; beyond that, results are dropped
    and counted."""
    retention_days: Annotated[float, Range(0, 36_500)] = 90.0
    """Age at which streams are deleted. 0: never."""
    team_retention_days: dict[str, float] = field(default_factory=dict)
    """The same for streams and files of some teams, e.g. {sales: 30}."""
    audit_retention_days: Annotated[float, Range(1, 36_500)] = 365.0
    """Age at which entries of the audit, who saw and did what, are deleted."""

    def __post_init__(self) -> None:
        check_fields(self, "store")
        for team, days in self.team_retention_days.items():
            if not 0 < days <= 36_500:
                raise ConfigError(
                    f"got store.team_retention_days.{team} {days:g}, expected more than 0 to 36500"
                )


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """Whether audio is kept."""

    enabled: bool = False
    """Keep the audio of every stream, each channel in a FLAC file."""
    dir: str = "~/.local/share/emotion-monitor/recordings"
    """Folder of the recordings."""
    retention_hours: Annotated[float, Range(0.01, 876_000)] = 24.0
    """Age at which recordings are deleted."""

    def __post_init__(self) -> None:
        check_fields(self, "recording")


@dataclass(frozen=True, slots=True)
class EncryptionConfig:
    """Whether recordings, and files that wait for their analysis, are encrypted on the disk."""

    key_file: str = ""
    """File with one key in each line, 32 bytes in base64 (`openssl rand -base64 32`). The first key
    encrypts, the others still decrypt: to change keys put a new one first, and remove the old one
    when everything it encrypted has expired. "": see keys."""
    keys: tuple[str, ...] = ()
    """The same keys, for those who have them in the environment
    (`EMOTION_MONITOR__STREAM_SERVER__ENCRYPTION__KEYS`). Without key_file and keys nothing is
    encrypted."""

    def __post_init__(self) -> None:
        check_fields(self, "encryption")
        if self.key_file and self.keys:
            raise ConfigError("got encryption.key_file and encryption.keys, expected one of them")


@dataclass(frozen=True, slots=True)
class FeedsConfig:
    """How programs receive results."""

    max_subscribers: Annotated[int, Range(1, 100_000)] = 200
    """Feed connections at a time."""
    mailbox_size: Annotated[int, Range(16, 1_000_000)] = 1024
    """Results that wait for a slow subscriber; beyond that its oldest points are dropped and
    counted."""
    mqtt_url: str = ""
    """Broker to publish to, e.g. mqtt://user:password@broker:1883; needs the extra ``mqtt``. "":
    none."""
    mqtt_topic: str = "emotion-monitor"
    """First part of the topics. A level {team} becomes the stream's team ("-" without one), e.g.
    emotion-monitor/{team}, so that the broker's rules can separate teams."""
    mqtt_discovery_streams: Annotated[int, Range(0, 1000)] = 0
    """Most live streams that appear in Home Assistant through its MQTT discovery; 0: none. A stream
    that begins while the limit is reached does not appear."""
    mqtt_discovery_prefix: str = "homeassistant"
    """First part of the topics where Home Assistant looks, its ``discovery_prefix``. It has a level
    ``{team}`` if ``mqtt_topic`` has one."""

    vss_url: str = ""
    """Eclipse Kuksa databroker of a car to publish signals to, grpc://HOST:PORT or grpcs://HOST:PORT;
    needs the extra ``vss``. "": none."""
    vss_token: str = ""
    """JSON Web Token with which the databroker lets this server provide the signals; "": it asks
    for none."""
    vss_prefix: str = "Vehicle.Driver.Emotion"
    """Branch of the signals; deploy/vss/emotion.json has it as it is here."""
    vss_role: str = "driver"
    """Role of the channels whose emotion is published; it must be in ``streams.analyse_roles``."""

    def __post_init__(self) -> None:
        check_fields(self, "feeds")
        if self.vss_url and not self.vss_url.startswith(("grpc://", "grpcs://")):
            raise ConfigError(
                f"got feeds.vss_url '{self.vss_url}', expected grpc://HOST:PORT or grpcs://HOST:PORT"
            )
        if not re.fullmatch(r"[A-Za-z0-9]+(\.[A-Za-z0-9]+)*", self.vss_prefix):
            raise ConfigError(
                f"got feeds.vss_prefix '{self.vss_prefix}', expected names of letters and digits"
                " with a '.' between, e.g. Vehicle.Driver.Emotion"
            )
        if self.mqtt_url and not self.mqtt_url.startswith(("mqtt://", "mqtts://")):
            # Not the URL itself: it may hold a password.
            raise ConfigError(
                "got a feeds.mqtt_url with another scheme, expected mqtt://HOST or mqtts://HOST"
            )


@dataclass(frozen=True, slots=True)
class BusConfig:
    """How several servers show each other's streams; see docs/how-to/cluster.md."""

    url: str = ""
    """NATS to meet at, e.g. nats://user:password@host:4222, several with commas between; needs the
    extra ``cluster``. "": this server is alone."""
    name: str = ""
    """Name of this server among them, the same after a restart: letters, digits, "-" and "_". "":
    the name of the machine."""
    subject: str = "emotion-monitor"
    """First part of the subjects. Servers with the same one see each other."""
    outbox_dir: str = "~/.local/share/emotion-monitor/outbox"
    """Folder of the alerts and acknowledgements that wait while NATS is away."""
    max_kept_messages: Annotated[int, Range(100, 10_000_000)] = 100_000
    """Alerts, acknowledgements and entries of the audit that wait at most; beyond that the oldest
    are dropped and counted."""

    def __post_init__(self) -> None:
        check_fields(self, "bus")
        schemes = ("nats://", "tls://")
        if self.url and not all(each.startswith(schemes) for each in self.url.split(",")):
            # Not the URL itself: it may hold a password.
            raise ConfigError(
                "got a bus.url with another scheme, expected nats://HOST or tls://HOST"
            )
        if self.name and not re.fullmatch(r"[A-Za-z0-9_-]+", self.name):
            raise ConfigError(
                f"got bus.name {self.name!r}, expected letters, digits, '-' and '_' only"
            )
        if not re.fullmatch(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*", self.subject):
            raise ConfigError(
                f"got bus.subject {self.subject!r}, expected letters, digits, '-' and '_', in"
                " parts with a '.' between"
            )


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """What is logged, one line an event, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    format: Literal["auto", "console", "json"] = "auto"
    """``auto``: console on a terminal, else json."""

    def __post_init__(self) -> None:
        check_fields(self, "logging")


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """Traces of single windows, from the socket to the published point."""

    url: str = ""
    """Where spans go, by OTLP over HTTP, e.g. ``http://localhost:4318/v1/traces``. "":
    nowhere. Needs the extra tracing."""
    share: Annotated[float, Range(0, 1)] = 0.001
    """Share of windows that are traced."""

    def __post_init__(self) -> None:
        check_fields(self, "tracing")
        if self.url and not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"got tracing.url {self.url!r}, expected http://… or https://…")


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The server: where audio comes in, what is done with streams, and where results go."""

    listen: ListenConfig = field(default_factory=ListenConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    processes: ProcessesConfig = field(default_factory=ProcessesConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    streams: StreamsConfig = field(default_factory=StreamsConfig)
    rights: RightsConfig = field(default_factory=RightsConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    encryption: EncryptionConfig = field(default_factory=EncryptionConfig)
    feeds: FeedsConfig = field(default_factory=FeedsConfig)
    bus: BusConfig = field(default_factory=BusConfig)
    telephony: TelephonyConfig = field(default_factory=TelephonyConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)

    def __post_init__(self) -> None:
        if self.processes.workers and self.recording.enabled:
            raise ConfigError(
                f"got processes.workers {self.processes.workers} with recording.enabled, expected"
                " one of them: audio is kept by a server of one process only"
            )
        if self.access.trust_loopback and self.telephony.public_url:
            raise ConfigError(
                "got access.trust_loopback with telephony.public_url, expected one of them: behind"
                " a proxy on this machine every client seems to be on this machine"
            )
