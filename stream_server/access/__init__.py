"""Who may connect, and what they may do: see ``docs/how-to/security.md``.

:mod:`.policy` decides; it is pure. :mod:`.credentials` knows tokens and people, :mod:`.door` looks
at a request and finds out who it is.
"""

from stream_server.access.config import AccessConfig, ListenConfig, OidcConfig
from stream_server.access.credentials import Session
from stream_server.access.door import (
    SESSION_COOKIE,
    Access,
    Arrival,
    bearer_token,
    is_loopback,
    session_of,
)
from stream_server.access.policy import MACHINE, SIGNED, Scope, Who

__all__ = [
    "MACHINE",
    "SESSION_COOKIE",
    "SIGNED",
    "Access",
    "AccessConfig",
    "Arrival",
    "ListenConfig",
    "OidcConfig",
    "Scope",
    "Session",
    "Who",
    "bearer_token",
    "is_loopback",
    "session_of",
]
