"""The server's settings: the ``stream_server`` section of ``config.yaml`` as frozen dataclasses.

Every class checks its own ranges and combinations when it is made, so a value that exists is a
value that works. Units are part of the names.

The settings of telephone platforms: the ``telephony`` group of ``stream_server``.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass, field
from typing import Literal

from ser_engine.config import check_choice, check_range
from ser_engine.errors import ConfigError
from stream_server.alerts.rules import AlertsConfig


@dataclass(frozen=True, slots=True)
class AudioHookConfig:
    """Genesys AudioHook."""

    keys: dict[str, str] = field(default_factory=dict, repr=False)
    """API keys and their client secrets, the latter in Base64 as Genesys shows them; none: no
    signature is asked for, but an access token, save on loopback."""
    max_age_s: float = 10.0
    """Age at which a signature is refused; 1 to 300 s."""
    events: bool = True
    """Results are sent back as events of the session, for what listens to them there."""
    event_interval_ms: int = 1000
    """Audio between two such messages, alerts apart; 200 to 60000 ms."""

    def __post_init__(self) -> None:
        check_range("telephony.audiohook.max_age_s", self.max_age_s, 1, 300)
        check_range("telephony.audiohook.event_interval_ms", self.event_interval_ms, 200, 60_000)
        for number, secret in enumerate(self.keys.values(), start=1):
            try:
                decoded = base64.b64decode(secret, validate=True)
            except (binascii.Error, ValueError):
                raise ConfigError(
                    f"got secret {number} of telephony.audiohook.keys that is no Base64, expected"
                    " it as Genesys shows it"
                ) from None
            if not decoded:
                # Anybody could sign with it.
                raise ConfigError(
                    f"got an empty secret {number} in telephony.audiohook.keys, expected the client"
                    " secret; where there is none, make the API key one of access.tokens"
                )


@dataclass(frozen=True, slots=True)
class AudioSocketConfig:
    """Asterisk AudioSocket: plain TCP, without a way to prove who calls."""

    port: int = 9092
    """It listens here; -1 to 65535, -1: nowhere, 0: any free one. Where another program has the
    default one, the server goes on without and says so."""
    allow: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Addresses and networks that may connect."""
    channels: int = 2
    """Connections of one call, paired by UUID, each a channel with one of ``telephony.roles``: 1 or
    2; a channel without a connection is a gap."""

    def __post_init__(self) -> None:
        check_range("telephony.audiosocket.port", self.port, -1, 65_535)
        check_range("telephony.audiosocket.channels", self.channels, 1, 2)
        for network in self.allow:
            try:
                ipaddress.ip_network(network, strict=False)
            except ValueError:
                raise ConfigError(
                    f"got '{network}' in telephony.audiosocket.allow, expected an address or"
                    " network, e.g. 10.0.0.0/8"
                ) from None


@dataclass(frozen=True, slots=True)
class TelephonyConfig:
    """The whole ``telephony`` group."""

    public_url: str = ""
    """What platforms connect to, e.g. wss://monitor.example.org, where a proxy stands in front of
    the server; signatures are made over it; "": they connect to the server itself."""
    roles: tuple[str, str] = ("customer", "agent")
    """Roles of a call's two sides: who called or is called, and who works here."""
    max_jitter_ms: int = 200
    """Longest wait for a packet that is late, in audio that came meanwhile; 20 to 2000 ms."""
    twilio_auth_token: str = field(default="", repr=False)
    """Twilio's auth token: its requests must be signed with it; "": an access token is asked for
    instead, on loopback none."""
    plivo_auth_token: str = field(default="", repr=False)
    """The same of Plivo."""
    vonage_signature_secret: str = field(default="", repr=False)
    """Vonage's signature secret, the same of its tokens."""
    audiohook: AudioHookConfig = field(default_factory=AudioHookConfig)
    audiosocket: AudioSocketConfig = field(default_factory=AudioSocketConfig)

    def __post_init__(self) -> None:
        check_range("telephony.max_jitter_ms", self.max_jitter_ms, 20, 2000)
        if self.public_url and not self.public_url.startswith(("ws://", "wss://")):
            raise ConfigError(
                f"got telephony.public_url '{self.public_url}', expected wss://HOST or ws://HOST"
            )
        if self.roles[0] == self.roles[1] or not all(self.roles):
            raise ConfigError(f"got telephony.roles {list(self.roles)}, expected two that differ")


_LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True, slots=True)
class ListenConfig:
    """Where the server listens."""

    host: str = "localhost"
    """Address of both ports; another than loopback takes ``access.tokens``."""
    port: int = 8765
    """Audio comes in here, over WebSocket; 0 to 65535, 0: any free one."""
    http_port: int = 7860
    """Feeds, health and metrics; 0 to 65535, 0: any free one."""

    def __post_init__(self) -> None:
        check_range("listen.port", self.port, 0, 65_535)
        check_range("listen.http_port", self.http_port, 0, 65_535)
        if self.port == self.http_port != 0:
            raise ConfigError(
                f"got listen.port and listen.http_port {self.port}, expected two ports"
            )

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        if self.host in _LOOPBACK_NAMES:
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, slots=True)
class AccessConfig:
    """Who may connect."""

    tokens: dict[str, str] = field(default_factory=dict)
    """Names and secrets of those who may: ``{crm: 3f9c…}``; never asked for on loopback."""
    allowed_origins: tuple[str, ...] = ()
    """Origins of pages that may connect from a browser, e.g. https://monitor.example.org; pages
    of this server's own and of loopback addresses always may, when the client is on loopback."""
    refusal_delay_ms: int = 500
    """How long a client whose token or signature is wrong waits for its refusal; 0 to 10000 ms."""

    def __post_init__(self) -> None:
        check_range("access.refusal_delay_ms", self.refusal_delay_ms, 0, 10_000)
        for name, token in self.tokens.items():
            if len(token) < 16:
                raise ConfigError(
                    f"got a token of {len(token)} characters for access.tokens.{name}, expected 16"
                    " or more; `openssl rand -hex 24` makes one"
                )
        if len(set(self.tokens.values())) != len(self.tokens):
            raise ConfigError("got one token under two names in access.tokens, expected each once")


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
