"""Alerts to people: mail, chats, on-call services, and whatever else Apprise reaches.

What goes out passes through companies that the people in the call never heard of. So a message says
which rule and how severe, whose channel and of which stream, and when; never a label, a figure, a
name or metadata. Needs the extra ``notify``.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from ser_engine.errors import ConfigError, how_to_install
from stream_server.wire.masking import masked
from stream_server.wire.results import Alert

_MAX_THREADS = 8
_KINDS = {"info": "info", "warning": "warning", "critical": "failure"}
"""How Apprise calls the severities; it gives them colours and pictures where a service has some."""


def notification_text(alert: Alert, dashboard_url: str) -> tuple[str, str]:
    """Return title and body of a message, with a link to the stream if there is a dashboard."""
    is_over = alert.state == "cleared"
    title = f"{'Over' if is_over else alert.severity.capitalize()}: {alert.rule}"
    since, at = _clock(alert.since_s), _clock(alert.at_s)
    when = f"over at {at}" if is_over else f"since {since}, raised at {at}"
    body = f"Channel {alert.channel} ({alert.role}) of stream {alert.stream_id}, {when}."
    if dashboard_url:
        body += f"\n{dashboard_url.rstrip('/')}/streams/{quote(alert.stream_id, safe='')}"
    return title, body


class Notifier:
    """Sends messages by Apprise, each in a thread: its services block while they send.

    Raises:
        ConfigError: Apprise is not installed, or does not know a URL.
    """

    def __init__(self, urls: Iterable[str], dashboard_url: str) -> None:
        try:
            apprise: Any = importlib.import_module("apprise")
        except ImportError:
            raise ConfigError(
                "'notify' in alerts.rules needs the package apprise, which is not installed;"
                f" {how_to_install('notify')}"
            ) from None
        # Its lines hold addresses, users and parts of paths, whatever the level.
        logger = logging.getLogger("apprise")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        asset = apprise.AppriseAsset(
            # Nothing on disk, and no plug-ins but its own.
            storage_mode="memory",
            plugin_paths=[],
            # A receiver must not be able to send the call on, into this machine's network.
            http_redirects=False,
            app_id="Emotion Monitor",
            app_desc="Emotion Monitor",
            app_url="",
        )
        self._services: dict[str, Any] = {}
        for url in urls:
            service = apprise.Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
            if service is None:
                raise ConfigError(
                    f"got '{masked(url, 'notify')}' in 'notify' of alerts.rules, expected a URL in"
                    " Apprise's form for the service: https://github.com/caronc/apprise/wiki"
                )
            self._services[url] = service
        self._dashboard_url = dashboard_url
        self._threads = ThreadPoolExecutor(
            max_workers=min(_MAX_THREADS, max(1, len(self._services))),
            thread_name_prefix="notify",
        )

    async def send(self, url: str, alert: Alert) -> bool:
        """Send one message; return whether the service took it."""
        title, body = notification_text(alert, self._dashboard_url)
        kind = "success" if alert.state == "cleared" else _KINDS[alert.severity]

        def notify() -> bool:
            try:
                return bool(self._services[url].notify(title=title, body=body, notify_type=kind))
            except Exception:
                # Whatever a hundred plug-ins raise, it was not sent; what it says may hold secrets.
                return False

        return await asyncio.get_running_loop().run_in_executor(self._threads, notify)

    def close(self) -> None:
        """End the threads; what is being sent goes on until its service's own time limit."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
