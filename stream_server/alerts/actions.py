"""Tell the log and webhooks of alerts; feeds and the store are told by other ways.

A subscriber of the bus like any other, so nothing waits for it. Each webhook has a queue of its own
and one call at a time, in order: a receiver that is slow or away delays and loses its own alerts
only.

A call is a POST whose body is the ``alert`` message of the feed as JSON: ids, never names or
metadata. It is signed::

    X-Emotion-Monitor-Timestamp: 1763816400
    X-Emotion-Monitor-Signature: sha256=HMAC-SHA256(secret, "1763816400." + body), hex

The timestamp is signed with the body, so that a receiver can refuse a request that was recorded and
is sent again later.

A webhook's URL is an operator's setting and is called as it stands, from this machine: a person who
may change the settings can make the server call any address it can reach, inside the network too.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import aiohttp
import msgspec
import structlog

from stream_server.alerts import AlertRule
from stream_server.bus import Bus
from stream_server.metrics import Metrics
from stream_server.wire.backoff import Backoff
from stream_server.wire.results import Alert, Result

MAX_ATTEMPTS = 8
"""Calls of one alert, the first one included: the last comes one to two minutes after the first."""

MAX_WAITING = 256
"""Alerts that wait for one receiver. When it is full the oldest is dropped, and counted: a receiver
that comes back wants to know what holds now."""

_FIRST_DELAY_S = 1.0
_LONGEST_DELAY_S = 60.0
_MAILBOX_SIZE = 4096
_CALL_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 5.0
_REQUEST_TIMEOUT = 408
_TOO_MANY_REQUESTS = 429
# Stands for the status of a call that was not answered; worth retrying, as all from 500 on.
_NO_ANSWER = 599

_log = structlog.get_logger(__name__)


def sign(body: bytes, secret: str, timestamp: int) -> str:
    """Return the value of the signature's header; ``timestamp``: that of its header."""
    signed = f"{timestamp}.".encode() + body
    return "sha256=" + hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def webhook_request(alert: Alert, secret: str, timestamp: int) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a call.

    Args:
        alert: the body.
        secret: of the rule; "": not signed.
        timestamp: seconds since 1970.
    """
    body = msgspec.json.encode(alert)
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "emotion-monitor",
        # The same for every attempt, so that a receiver can tell a repetition.
        "X-Emotion-Monitor-Delivery": f"{alert.alert_id}-{alert.state}",
        "X-Emotion-Monitor-Timestamp": str(timestamp),
    }
    if secret:
        headers["X-Emotion-Monitor-Signature"] = sign(body, secret, timestamp)
    return body, headers


def is_worth_retrying(status: int) -> bool:
    """Return whether the same call may succeed later."""
    return status in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS) or status >= 500


def retry_after_s(header: str) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, at most a minute; else None."""
    # RFC 9110, 10.2.3 also allows a date, which would take the receiver's clock for ours.
    if not (header.isascii() and header.isdigit()):
        return None
    return min(float(header), _LONGEST_DELAY_S)


class AlertActions:
    """Logs alerts and calls webhooks while it is entered (``async with``).

    Args:
        rules: of the settings.
        bus: where alerts are published.
        metrics: counts alerts and calls.
        now: the time, seconds since 1970.
        rng: spreads repeated calls in time.
    """

    def __init__(
        self,
        rules: Sequence[AlertRule],
        bus: Bus,
        metrics: Metrics,
        *,
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._subscription = bus.subscribe(name="alerts", capacity=_MAILBOX_SIZE, wants=_is_alert)
        self._metrics = metrics
        self._now = now
        self._rng = rng or random.Random()
        self._receivers: dict[str, _Receiver] = {}
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S),
            # One session serves all receivers; none is to see another call's cookies.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        for rule in self._rules.values():
            if rule.webhook and rule.webhook not in self._receivers:
                receiver = _Receiver(
                    rule.webhook, self._session, self._metrics, self._now, self._rng
                )
                self._receivers[rule.webhook] = receiver
                receiver.start()
        self._task = asyncio.create_task(self._run(), name="alert actions")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop: what waits is called once more, without retries, for 5 s at most."""
        assert self._task is not None
        assert self._session is not None
        for alert in self._subscription.take_waiting():
            self._tell(alert)
        self._subscription.close()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(receiver.stop() for receiver in self._receivers.values()))
        await self._session.close()

    async def _run(self) -> None:
        async for alert in self._subscription:
            self._tell(alert)

    def _tell(self, result: Result) -> None:
        assert isinstance(result, Alert), "the subscription wants nothing else"
        if result.state == "raised":
            self._metrics.alert(result.rule, result.severity)
        # Neither labels nor posteriors: emotions are not for logs.
        _log.info(
            f"alert_{result.state}",
            alert_id=result.alert_id,
            stream_id=result.stream_id,
            rule=result.rule,
            severity=result.severity,
            at_s=result.at_s,
        )
        rule = self._rules.get(result.rule)
        if rule is not None and rule.webhook:
            self._receivers[rule.webhook].put(result, rule.webhook_secret)


class _Receiver:
    """One URL: the alerts that wait for it, and the task that calls it."""

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        metrics: Metrics,
        now: Callable[[], float],
        rng: random.Random,
    ) -> None:
        self._url = url
        self._session = session
        self._metrics = metrics
        self._now = now
        self._rng = rng
        self._waiting: deque[tuple[Alert, str]] = deque()
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="webhook")

    def put(self, alert: Alert, secret: str) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._metrics.webhook("dropped")
        self._waiting.append((alert, secret))
        self._awake.set()

    async def stop(self) -> None:
        """Call for what waits, once each, then end."""
        assert self._task is not None
        self._stopping.set()
        self._awake.set()
        _, late = await asyncio.wait((self._task,), timeout=_STOP_TIMEOUT_S)
        for _ in self._waiting:
            self._metrics.webhook("dropped")
        # Emptied before the task is cancelled: a call that ends at this very moment must not be
        # followed by another.
        self._waiting.clear()
        for task in late:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            while self._waiting:
                await self._deliver(*self._waiting.popleft())
            if self._stopping.is_set():
                return
            self._awake.clear()
            await self._awake.wait()

    async def _deliver(self, alert: Alert, secret: str) -> None:
        backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S, self._rng)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            status, retry_after_s = await self._call(alert, secret)
            if 200 <= status < 300:
                self._metrics.webhook("delivered")
                return
            last = attempt == MAX_ATTEMPTS or self._stopping.is_set()
            if last or not is_worth_retrying(status):
                break
            await self._pause(backoff.next_s(retry_after_s))
        self._metrics.webhook("failed")
        # Not the URL, which may hold a secret; the rule tells which one it is.
        _log.warning(
            "webhook_failed",
            alert_id=alert.alert_id,
            rule=alert.rule,
            status=status,
            attempts=attempt,
        )

    async def _call(self, alert: Alert, secret: str) -> tuple[int, float | None]:
        """Call once; return the status (599: no answer), and how long to wait at least."""
        body, headers = webhook_request(alert, secret, int(self._now()))
        try:
            async with self._session.post(
                # A receiver must not be able to send the call on, into this machine's network.
                self._url,
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                return response.status, retry_after_s(response.headers.get("Retry-After", ""))
        except (aiohttp.ClientError, TimeoutError, OSError):
            return _NO_ANSWER, None

    async def _pause(self, delay_s: float) -> None:
        """Wait for a delay, or until the server stops: then there is no time for delays."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()


def _is_alert(result: Result) -> bool:
    return isinstance(result, Alert)
