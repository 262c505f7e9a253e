"""Genesys AudioHook, version 2, the server's side."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Annotated

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from stream_server.platforms.audiohook.signature import SignatureVerifier, authority_of
from stream_server.platforms.platform import Platform, RouteContext, TelephonySettings
from stream_server.platforms.route import Route


@dataclass(frozen=True, slots=True)
class AudioHookConfig:
    """Genesys AudioHook."""

    keys: dict[str, str] = field(default_factory=dict, repr=False)
    """API keys and their client secrets, the latter in Base64 as Genesys shows them; none: Genesys
    needs an access token instead (on loopback none)."""
    max_age_s: Annotated[float, Range(1, 300)] = 10.0
    """Age at which a signature is refused."""
    events: bool = True
    """Send results back as events of the session, for programs that listen to them at Genesys."""
    event_interval_ms: Annotated[int, Range(200, 60_000)] = 1000
    """Audio between two such messages, alerts apart."""

    def __post_init__(self) -> None:
        check_fields(self, "telephony.audiohook")
        for number, secret in enumerate(self.keys.values(), start=1):
            try:
                decoded = base64.b64decode(secret, validate=True)
            except (binascii.Error, ValueError):
                raise ConfigError(
                    f"secret {number} of telephony.audiohook.keys is not Base64; copy it as Genesys"
                    " shows it"
                ) from None
            if not decoded:
                # An HMAC with an empty key is one that anyone can make.
                raise ConfigError(
                    f"secret {number} of telephony.audiohook.keys is empty, expected the client"
                    " secret; where there is none, make the API key one of access.tokens"
                )


@dataclass(frozen=True)
class AudioHookSettings(TelephonySettings):
    """Settings of Genesys AudioHook."""

    audiohook: AudioHookConfig = field(default_factory=AudioHookConfig)


def _route(settings: AudioHookSettings, context: RouteContext) -> Route:
    # Imported here: it logs, and commands read the settings without the server's packages.
    from stream_server.platforms.audiohook.route import AudioHookRoute

    hook = settings.audiohook
    verifier: SignatureVerifier | None = None
    if hook.keys:
        verifier = SignatureVerifier(
            {key: base64.b64decode(secret) for key, secret in hook.keys.items()},
            max_age_s=hook.max_age_s,
            authority=authority_of(settings.public_url) if settings.public_url else "",
        )
    event_interval_ms = hook.event_interval_ms if hook.events else None
    return AudioHookRoute(settings.roles, context.access, verifier, event_interval_ms)


PLATFORM = Platform({"/audiohook": _route}, AudioHookSettings)
