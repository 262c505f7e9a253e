"""Tell the log, webhooks and services of alerts; feeds and the store are told by other ways.

A subscriber of the bus like any other, so nothing waits for it. Each webhook, and each service that
:mod:`.notify` reaches, has a queue of its own and one call at a time, in order: a receiver that is
slow or away delays and loses its own alerts only.

A webhook's call is a POST whose body is the ``alert`` message of the feed as JSON: ids, never names
or metadata. It is signed::

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
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Self

import aiohttp
import msgspec
import structlog
from prometheus_client import Counter

from ser_engine.frames import SAMPLE_RATE_HZ
from stream_server.alerts import AlertRule
from stream_server.alerts.notify import Notifier
from stream_server.bus import Bus
from stream_server.metrics import Metrics
from stream_server.wire.errors import Backoff
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
    """Return body and headers of a call, signed if ``secret`` is not "".

    ``timestamp`` is in seconds since 1970.
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one call.

    Attributes:
        status: of HTTP; 599: there was no answer, or the service does not say what was wrong.
        retry_after_s: how long to wait at least.
    """

    status: int
    retry_after_s: float | None = None

    @property
    def is_good(self) -> bool:
        """Whether the receiver took it."""
        return 200 <= self.status < 300


Call = Callable[[Alert, AlertRule], Awaitable[Answer]]


class Receivers:
    """Calls webhooks and services, while it is entered (``async with``)."""

    def __init__(
        self, rules: Sequence[AlertRule], dashboard_url: str, now: Callable[[], float]
    ) -> None:
        self._urls = sorted({url for rule in rules for url in rule.notify})
        self._dashboard_url = dashboard_url
        self._now = now
        self._session: aiohttp.ClientSession | None = None
        self._notifier: Notifier | None = None

    async def __aenter__(self) -> Self:
        if self._urls:
            # A second of imports.
            self._notifier = await asyncio.to_thread(Notifier, self._urls, self._dashboard_url)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=_CALL_TIMEOUT_S),
            # One session serves all receivers; none is to see another call's cookies.
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._session is not None:
            await self._session.close()
        if self._notifier is not None:
            self._notifier.close()

    async def post(self, alert: Alert, rule: AlertRule) -> Answer:
        """Call the webhook of a rule once."""
        assert self._session is not None, "it is entered"
        body, headers = webhook_request(alert, rule.webhook_secret, int(self._now()))
        try:
            async with self._session.post(
                # A receiver must not be able to send the call on, into this machine's network.
                rule.webhook,
                data=body,
                headers=headers,
                allow_redirects=False,
            ) as response:
                after_s = retry_after_s(response.headers.get("Retry-After", ""))
                return Answer(response.status, after_s)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Answer(_NO_ANSWER)

    async def notify(self, url: str, alert: Alert) -> Answer:
        """Tell a service once."""
        assert self._notifier is not None, "it is entered, and knows the URL"
        # Apprise does not say whether it is worth another try.
        return Answer(200 if await self._notifier.send(url, alert) else _NO_ANSWER)


class AlertActions:
    """Logs alerts, calls webhooks and tells services while it is entered (``async with``).

    ``dashboard_url``: for links in what services are told; "": none. ``rng`` spreads repeated calls
    in time.

    Raises:
        ConfigError: on entering: a service is none that is known, or Apprise is not installed.
    """

    def __init__(
        self,
        *,
        rules: Sequence[AlertRule],
        bus: Bus,
        metrics: Metrics,
        dashboard_url: str = "",
        now: Callable[[], float] = time.time,
        rng: random.Random | None = None,
    ) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._subscription = bus.subscribe(name="alerts", capacity=_MAILBOX_SIZE, wants=_is_alert)
        self._metrics = metrics
        self._rng = rng or random.Random()
        self._receivers = Receivers(rules, dashboard_url, now)
        self._queues: dict[tuple[str, str], _Queue] = {}  # by setting and URL
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        receivers, metrics = await self._receivers.__aenter__(), self._metrics
        for rule in self._rules.values():
            if rule.webhook:
                self._begin("webhook", rule.webhook, receivers.post, metrics.webhooks)
            for url in rule.notify:
                self._begin("notify", url, _told(receivers, url), metrics.notifications)
        self._task = asyncio.create_task(self._run(), name="alert actions")
        return self

    async def __aexit__(self, *exc: object) -> None:
        """Stop: what waits is called once more, without retries, for 5 s at most."""
        assert self._task is not None
        for alert in self._subscription.take_waiting():
            self._tell(alert)
        self._subscription.close()
        await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(queue.stop() for queue in self._queues.values()))
        await self._receivers.__aexit__(*exc)

    def _begin(self, setting: str, url: str, call: Call, outcomes: Counter) -> None:
        if (setting, url) not in self._queues:
            self._queues[setting, url] = queue = _Queue(call, setting, outcomes, self._rng)
            queue.start()

    async def _run(self) -> None:
        async for alert in self._subscription:
            self._tell(alert)

    def _tell(self, result: Result) -> None:
        assert isinstance(result, Alert), "the subscription wants nothing else"
        if result.state == "raised":
            self._metrics.alerts.labels(result.rule, result.severity).inc()
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
        if rule is None:
            return
        if rule.webhook:
            self._queues["webhook", rule.webhook].put(result, rule)
        for url in dict.fromkeys(rule.notify):
            self._queues["notify", url].put(result, rule)


def _told(receivers: Receivers, url: str) -> Call:
    return lambda alert, rule: receivers.notify(url, alert)


class _Queue:
    """One URL: the alerts that wait for it, and the task that calls it."""

    def __init__(self, call: Call, setting: str, outcomes: Counter, rng: random.Random) -> None:
        self._call = call
        self._setting = setting
        self._outcomes = outcomes
        self._rng = rng
        self._waiting: deque[tuple[Alert, AlertRule]] = deque()
        self._awake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=self._setting)

    def put(self, alert: Alert, rule: AlertRule) -> None:
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._outcomes.labels("dropped").inc()
        self._waiting.append((alert, rule))
        self._awake.set()

    async def stop(self) -> None:
        """Call for what waits, once each, then end."""
        assert self._task is not None
        self._stopping.set()
        self._awake.set()
        _, late = await asyncio.wait((self._task,), timeout=_STOP_TIMEOUT_S)
        for _ in self._waiting:
            self._outcomes.labels("dropped").inc()
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

    async def _deliver(self, alert: Alert, rule: AlertRule) -> None:
        backoff = Backoff(_FIRST_DELAY_S, _LONGEST_DELAY_S, self._rng)
        for attempt in range(1, MAX_ATTEMPTS + 1):
            answer = await self._call(alert, rule)
            if answer.is_good:
                self._outcomes.labels("delivered").inc()
                return
            last = attempt == MAX_ATTEMPTS or self._stopping.is_set()
            if last or not is_worth_retrying(answer.status):
                break
            await self._pause(backoff.next_s(answer.retry_after_s))
        self._outcomes.labels("failed").inc()
        # Not the URL, which may hold a secret; the rule tells which one it is.
        _log.warning(
            f"{self._setting}_failed",
            alert_id=alert.alert_id,
            rule=alert.rule,
            status=answer.status,
            attempts=attempt,
        )

    async def _pause(self, delay_s: float) -> None:
        """Wait for a delay, or until the server stops: then there is no time for delays."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay_s):
                await self._stopping.wait()


async def try_receivers(
    rule: AlertRule, dashboard_url: str = "", now: Callable[[], float] = time.time
) -> list[tuple[str, str, Answer]]:
    """Send everyone whom a rule tells an alert that says it is a test; return what they answer.

    Returns:
        For each the setting that names it, ``webhook`` or ``notify``, its URL and its answer.

    Raises:
        ConfigError: as :class:`AlertActions`.
    """
    alert = Alert(
        stream_id="test",
        seq=0,
        alert_id="test",
        rule=f"{rule.name} (test)",
        state="raised",
        severity=rule.severity,
        channel=0,
        role=rule.roles[0] if rule.roles else "customer",
        labels=rule.labels,
        posterior=rule.threshold,
        since_sample=0,
        at_sample=round(rule.hold_s * SAMPLE_RATE_HZ),
    )
    async with Receivers((rule,), dashboard_url, now) as receivers:
        asked = [
            ("notify", url, receivers.notify(url, alert)) for url in dict.fromkeys(rule.notify)
        ]
        if rule.webhook:
            asked.insert(0, ("webhook", rule.webhook, receivers.post(alert, rule)))
        answers = await asyncio.gather(*(call for _, _, call in asked))
    return [(*each[:2], answer) for each, answer in zip(asked, answers, strict=True)]


def _is_alert(result: Result) -> bool:
    return isinstance(result, Alert)
