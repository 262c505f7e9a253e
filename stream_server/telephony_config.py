"""The settings of telephone platforms: the ``telephony`` group of ``stream_server``."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from dataclasses import dataclass, field

from ser_engine.config_checks import check_range
from ser_engine.errors import ConfigError

__all__ = ["AudioHookConfig", "AudioSocketConfig", "TelephonyConfig"]


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
