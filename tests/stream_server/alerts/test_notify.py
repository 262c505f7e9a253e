"""Alerts by Apprise, to a real server that plays its ``json://`` target."""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import BasicAuth, web
from aiohttp.test_utils import TestServer

from ser_engine.errors import ConfigError
from stream_server.alerts import AlertRule, AlertsConfig
from stream_server.alerts import actions as actions_module
from stream_server.alerts.actions import AlertActions, Receivers, try_receivers
from stream_server.alerts.notify import notification_text
from stream_server.bus import Bus
from stream_server.metrics import Metrics
from tests.support.results import make_alert

pytestmark = [
    pytest.mark.needs("apprise"),
    # Apprise imports it where Python still has it.
    pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning"),
]

RULE = "customer stays angry"
SECRET = "s3cr3tT0ken"


class Service:
    """What Apprise calls.

    Attributes:
        statuses: what to answer, in order; then 200.
        calls: the passwords and messages that came.
    """

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.called = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.Response:
        login = BasicAuth.decode(request.headers["Authorization"])
        self.calls.append((login.password, await request.json()))
        async with self.called:
            self.called.notify_all()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"Location": "/elsewhere"})

    async def until_called(self, times: int) -> None:
        async with asyncio.timeout(30), self.called:
            await self.called.wait_for(lambda: len(self.calls) >= times)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Service, str]]:
    service = Service()
    app = web.Application()
    app.router.add_post("/{path:.*}", service.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield service, f"json://user:{SECRET}@127.0.0.1:{server.port}/{SECRET}"


def rule_of(*notify: str, webhook: str = "") -> AlertRule:
    return AlertRule(name=RULE, labels=("angry",), webhook=webhook, notify=notify)


def counted(metrics: Metrics, outcome: str) -> float:
    name = "emotion_monitor_notifications_total"
    return metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions_module, "_FIRST_DELAY_S", 0.01)
    monkeypatch.setattr(actions_module, "_LONGEST_DELAY_S", 0.02)


async def test_an_alert_is_told_until_the_service_takes_it_and_its_end_after_that(
    at_once: None, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
):
    caplog.set_level(logging.INFO)  # Below that, libraries are never heard.
    bus, metrics = Bus(), Metrics()
    async with serving() as (service, url):
        service.statuses = [500, 302]
        actions = AlertActions(
            rules=[rule_of(url, url)],
            bus=bus,
            metrics=metrics,
            dashboard_url="https://monitor.example.org/",
            rng=random.Random(0),
        )
        async with actions:
            bus.publish(make_alert())
            bus.publish(make_alert("cleared", at_s=75.0))
            await service.until_called(4)
    passwords, messages = zip(*service.calls, strict=True)
    assert set(passwords) == {SECRET}
    assert messages[0] == messages[1] == messages[2]
    raised, cleared = messages[2:]
    assert (raised["title"], raised["type"]) == (f"Critical: {RULE}", "failure")
    assert raised["message"] == (
        "Channel 0 (customer) of stream s1, since 0:00:00, raised at 0:00:06.\n"
        "https://monitor.example.org/streams/s1"
    )
    assert (cleared["title"], cleared["type"]) == (f"Over: {RULE}", "success")
    assert "over at 0:01:15" in cleared["message"]
    assert counted(metrics, "delivered") == 2
    # The service's own log of what came to it is not ours.
    lines = [each.getMessage() for each in caplog.records if each.name != "aiohttp.access"]
    assert SECRET not in str(lines) + "".join(capfd.readouterr())


async def test_a_service_that_never_takes_it_is_given_up(at_once: None):
    bus, metrics = Bus(), Metrics()
    async with serving() as (service, url):
        service.statuses = [500] * 20
        async with AlertActions(rules=[rule_of(url)], bus=bus, metrics=metrics):
            bus.publish(make_alert())
            await service.until_called(actions_module.MAX_ATTEMPTS)
    assert len(service.calls) == actions_module.MAX_ATTEMPTS
    assert counted(metrics, "failed") == 1


async def test_everyone_whom_a_rule_tells_can_be_tried():
    async with serving() as (service, url), serving() as (away, other):
        away.statuses = [401]
        tried = await try_receivers(rule_of(url, other, webhook="http://127.0.0.1:9/"))
    assert [(setting, answer.is_good) for setting, _, answer in tried] == [
        ("webhook", False),
        ("notify", True),
        ("notify", False),
    ]
    ((_, message),) = service.calls
    assert message["title"] == f"Warning: {RULE} (test)"


@pytest.mark.parametrize("url", [f"nonsense://{SECRET}", "json://", f"mailto://{SECRET}"])
async def test_a_url_of_nothing_is_an_error_at_the_start_that_does_not_show_it(url: str):
    with pytest.raises(
        ConfigError, match=r"in 'notify' of alerts\.rules, expected a URL"
    ) as caught:
        async with Receivers([rule_of(url)], "", lambda: 0):
            pass
    assert SECRET not in str(caught.value)


async def test_without_apprise_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(ConfigError, match=r"install 'emotion-monitor\[notify\]'"):
        async with Receivers([rule_of("json://127.0.0.1/")], "", lambda: 0):
            pass


def test_what_is_no_url_is_an_error_that_does_not_show_it():
    with pytest.raises(ConfigError, match="got an entry of notify that is not a URL") as caught:
        rule_of(SECRET)
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match=r"got alerts\.dashboard_url 'monitor'"):
        AlertsConfig(dashboard_url="monitor")


def test_a_message_has_neither_label_nor_figure():
    alert = make_alert()
    text = " ".join(notification_text(alert, "")).replace(RULE, "")
    assert not {"angry", "0.8", "80"} & set(text.split())
