"""The server's settings: the ``stream_server`` section of ``config.yaml`` as frozen dataclasses.

Every class checks its own ranges and combinations when it is made, so a value that exists is a
value that works. Units are part of the names.

A capability keeps its settings beside its code: access, alerts, telephone platforms.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ser_engine.config import check_choice, check_range
from ser_engine.errors import ConfigError
from stream_server.access import AccessConfig, ListenConfig
from stream_server.alerts.rules import AlertsConfig
from stream_server.platforms import TelephonyConfig


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    """What the server takes on."""

    max_streams: int = 256
    """Streams at a time, those that may be resumed included; 1 to 100000."""
    max_streams_per_token: int = 256
    """Of one token; 1 to 100000."""
    max_message_bytes: int = 1_048_576
    """Largest message; 1024 to 16777216."""
    max_messages_per_s: int = 500
    """Messages a second of one connection, a burst of ten seconds' worth is taken; 1 to 100000."""
    start_timeout_s: float = 10.0
    """Longest wait for ``start``; 0.1 to 300 s."""
    idle_timeout_s: float = 60.0
    """Longest time without audio or ``keepalive``; 1 to 86400 s."""
    max_stream_s: float = 14_400.0
    """Longest audio of one stream; 1 to 604800 s."""
    resume_window_s: float = 30.0
    """How long a lost client may come back; 0 to 3600 s."""
    max_kept_results: int = 512
    """Results of a stream kept for a client that reads slowly or comes back; 64 to 1000000."""
    drain_timeout_s: float = 10.0
    """Longest wait for the last results of streams when the server stops; 0.1 to 300 s."""

    def __post_init__(self) -> None:
        check_range("limits.max_streams", self.max_streams, 1, 100_000)
        check_range("limits.max_streams_per_token", self.max_streams_per_token, 1, 100_000)
        check_range("limits.max_message_bytes", self.max_message_bytes, 1024, 1 << 24)
        check_range("limits.max_messages_per_s", self.max_messages_per_s, 1, 100_000)
        check_range("limits.start_timeout_s", self.start_timeout_s, 0.1, 300)
        check_range("limits.idle_timeout_s", self.idle_timeout_s, 1, 86_400)
        check_range("limits.max_stream_s", self.max_stream_s, 1, 604_800)
        check_range("limits.resume_window_s", self.resume_window_s, 0, 3600)
        check_range("limits.max_kept_results", self.max_kept_results, 64, 1_000_000)
        check_range("limits.drain_timeout_s", self.drain_timeout_s, 0.1, 300)


@dataclass(frozen=True, slots=True)
class StreamsConfig:
    """What is done with every stream."""

    analyse_roles: tuple[str, ...] = ("speaker", "customer", "caller", "driver", "passenger")
    """Roles that are analysed; ``agent`` is left out: see the README's section on law."""
    heartbeat_ms: int = 1000
    """Time between heartbeats; 100 to 60000 ms."""

    def __post_init__(self) -> None:
        check_range("streams.heartbeat_ms", self.heartbeat_ms, 100, 60_000)
        if not self.analyse_roles:
            raise ConfigError("got no streams.analyse_roles, expected at least one role")


@dataclass(frozen=True, slots=True)
class StoreConfig:
    """Where timelines are kept."""

    url: str = "sqlite:///~/.local/share/emotion-monitor/timelines.db"
    """SQLAlchemy URL: a SQLite file, or postgresql+psycopg://USER:PASSWORD@HOST/DATABASE; "": no
    store, nothing outlives the process."""
    write_interval_ms: int = 500
    """Longest time a result waits to be written; 10 to 10000 ms."""
    max_pending_results: int = 200_000
    """Results that wait while the database does not answer, more are dropped and counted; 1000 to
    100000000."""
    retention_days: float = 90.0
    """Age at which streams are deleted; 0 to 36500, 0: never."""

    def __post_init__(self) -> None:
        check_range("store.write_interval_ms", self.write_interval_ms, 10, 10_000)
        check_range("store.max_pending_results", self.max_pending_results, 1000, 100_000_000)
        check_range("store.retention_days", self.retention_days, 0, 36_500)


@dataclass(frozen=True, slots=True)
class RecordingConfig:
    """Whether audio is kept."""

    enabled: bool = False
    """True: keep the audio of every stream, each channel a FLAC file. True or false."""
    dir: str = "~/.local/share/emotion-monitor/recordings"
    """Folder of the recordings."""
    retention_hours: float = 24.0
    """Age at which recordings are deleted; 0.01 to 876000."""

    def __post_init__(self) -> None:
        check_range("recording.retention_hours", self.retention_hours, 0.01, 876_000)


@dataclass(frozen=True, slots=True)
class FeedsConfig:
    """How programs are told of results."""

    max_subscribers: int = 200
    """Feed connections at a time; 1 to 100000."""
    mailbox_size: int = 1024
    """Results that wait for one slow subscriber before the oldest points are dropped and counted;
    16 to 1000000."""
    mqtt_url: str = ""
    """Broker to publish to, e.g. mqtt://user:password@broker:1883; "": none. Takes the extra
    ``mqtt``."""
    mqtt_topic: str = "emotion-monitor"
    """First part of the topics."""

    def __post_init__(self) -> None:
        check_range("feeds.max_subscribers", self.max_subscribers, 1, 100_000)
        check_range("feeds.mailbox_size", self.mailbox_size, 16, 1_000_000)
        if self.mqtt_url and not self.mqtt_url.startswith(("mqtt://", "mqtts://")):
            # Not the URL itself: it may hold a password.
            raise ConfigError(
                "got a feeds.mqtt_url of another kind, expected mqtt://HOST or mqtts://HOST"
            )


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """What is logged, one line an event, to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """``debug``, ``info``, ``warning`` or ``error``."""
    format: Literal["auto", "console", "json"] = "auto"
    """``console``, ``json``, or ``auto``: console on a terminal, else json."""

    def __post_init__(self) -> None:
        check_choice("logging.level", self.level, ("debug", "info", "warning", "error"))
        check_choice("logging.format", self.format, ("auto", "console", "json"))


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The whole ``stream_server`` section."""

    listen: ListenConfig = field(default_factory=ListenConfig)
    access: AccessConfig = field(default_factory=AccessConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    streams: StreamsConfig = field(default_factory=StreamsConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    recording: RecordingConfig = field(default_factory=RecordingConfig)
    feeds: FeedsConfig = field(default_factory=FeedsConfig)
    telephony: TelephonyConfig = field(default_factory=TelephonyConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)

    def __post_init__(self) -> None:
        if not self.listen.is_loopback and not self.access.tokens:
            raise ConfigError(
                f"got listen.host '{self.listen.host}' without access.tokens, expected a loopback"
                " address, or tokens for those who may connect from elsewhere"
            )
