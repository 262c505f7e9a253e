"""Telephone and voice platforms that stream calls to the server: one folder a platform.

A platform's folder holds its dialect, its route, the check of its signature, its settings, its page
(``README.md``, whose transcript is a test) and recorded sessions. To add one, write the folder with
a ``PLATFORM`` in its ``__init__.py`` and add its name to :data:`NAMES`.

Importing a folder must cost little and need nothing beyond the packages of a client: every command
reads the settings. What needs more is imported when the route is made; ports of its own are in its
``server.py``, which :mod:`stream_server.streams.listeners` imports.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import make_dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from stream_server.access import Access
from stream_server.platforms.platform import Platform, RouteContext, TelephonySettings
from stream_server.platforms.route import Route

__all__ = ["NAMES", "PLATFORMS", "TelephonyConfig", "make_routes"]

NAMES = (
    "twilio",
    "telnyx",
    "plivo",
    "exotel",
    "vonage",
    "signalwire",
    "azure",
    "bandwidth",
    "audiocodes",
    "audiohook",
    "amazon_connect",
    "asterisk",
    "siprec",
    "rtp",
    "freeswitch",
    "deepgram",
)
"""The folders, in the order of their settings in ``config.yaml``."""

PLATFORMS: dict[str, Platform[Any]] = {
    # Imported by name: one line adds a platform, and mypy checks each PLATFORM in its own folder.
    name: import_module(f"{__name__}.{name}").PLATFORM
    for name in NAMES
}

if TYPE_CHECKING:

    class TelephonyConfig(TelephonySettings):
        """The ``telephony`` group: shared settings and those of every platform."""

        def __init__(self, **settings: Any) -> None: ...

else:
    # Fields are collected from the last base to the first, so the last platform comes first.
    _settings = dict.fromkeys(platform.settings for platform in PLATFORMS.values())
    _bases = [each for each in reversed(_settings) if each is not TelephonySettings]
    TelephonyConfig = make_dataclass(
        "TelephonyConfig",
        (),
        # Without slots: several bases with slots cannot be combined.
        bases=(*_bases, TelephonySettings),
        frozen=True,
        namespace={"__doc__": "Telephone platforms that send calls here.", "__module__": __name__},
    )


def make_routes(
    config: TelephonyConfig, access: Access, check_capacity: Callable[[str], None]
) -> dict[str, Route]:
    """Return the routes of all platforms, by the first part of their paths."""
    context = RouteContext(access, check_capacity)
    return {
        path: make_route(config.of(platform.settings), context)
        for platform in PLATFORMS.values()
        for path, make_route in platform.routes.items()
    }
