from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import structlog
from aiohttp import web
from aiohttp.test_utils import TestServer

from stream_server.alerts import AlertRule
from stream_server.alerts import actions as actions_module
from stream_server.alerts.actions import MAX_ATTEMPTS, MAX_WAITING, AlertActions, sign
from stream_server.bus import Bus
from stream_server.metrics import Metrics
from stream_server.wire.results import Alert
from tests.support.results import make_alert, make_opened, make_point
from tests.support.virtual_time import virtual_time

RULE = "customer stays angry"


class Receiver:
    """A webhook's other end, on loopback.

    Attributes:
        statuses: what to answer, in order; then 200.
        calls: headers and body of each call.
    """

    def __init__(self) -> None:
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.called = asyncio.Condition()
        self.gate = asyncio.Event()
        self.gate.set()

    async def answer(self, request: web.Request) -> web.Response:
        self.calls.append((dict(request.headers), await request.read()))
        async with self.called:
            self.called.notify_all()
        await self.gate.wait()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers=self.headers)

    async def until_called(self, times: int) -> None:
        async with self.called:
            await self.called.wait_for(lambda: len(self.calls) >= times)

    def alerts(self) -> list[Alert]:
        return [msgspec.json.decode(body, type=Alert) for _, body in self.calls]


@asynccontextmanager
async def receiving() -> AsyncIterator[tuple[Receiver, str]]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_post("/hook", receiver.answer)
    async with TestServer(app, host="127.0.0.1") as server:
        yield receiver, str(server.make_url("/hook"))
        receiver.gate.set()


def make_rule(webhook: str = "", *, name: str = RULE, secret: str = "") -> AlertRule:
    return AlertRule(name=name, labels=("angry",), webhook=webhook, webhook_secret=secret)


class Lab:
    def __init__(self, *rules: AlertRule) -> None:
        self.bus = Bus()
        self.metrics = Metrics()
        self.actions = AlertActions(
            rules=rules,
            bus=self.bus,
            metrics=self.metrics,
            now=lambda: 1_800_000_000.5,
            rng=random.Random(0),
        )

    def webhooks(self, outcome: str) -> float:
        name = "emotion_monitor_webhooks_total"
        return self.metrics.registry.get_sample_value(name, {"outcome": outcome}) or 0.0


@virtual_time
async def test_an_alert_is_posted_and_signed():
    async with receiving() as (receiver, url):
        lab = Lab(make_rule(url, secret="a secret"))
        async with lab.actions:
            lab.bus.publish(make_opened())
            lab.bus.publish(make_point())
            lab.bus.publish(make_alert(seq=7))
            await receiver.until_called(1)
        assert receiver.alerts() == [make_alert(seq=7)]
        ((headers, body),) = receiver.calls
        assert headers["X-Emotion-Monitor-Timestamp"] == "1800000000"
        assert headers["X-Emotion-Monitor-Signature"] == sign(body, "a secret", 1_800_000_000)
        assert lab.webhooks("delivered") == 1


@virtual_time
async def test_a_call_that_fails_is_repeated_in_the_order_of_alerts():
    async with receiving() as (receiver, url):
        receiver.statuses = [500, 429, 503]
        lab = Lab(make_rule(url))
        start_s = asyncio.get_running_loop().time()
        async with lab.actions:
            lab.bus.publish(make_alert())
            lab.bus.publish(make_alert("cleared"))
            await receiver.until_called(5)
        assert [alert.state for alert in receiver.alerts()] == ["raised"] * 4 + ["cleared"]
        waited_s = asyncio.get_running_loop().time() - start_s
        assert 3.5 <= waited_s <= 7.1
        assert lab.webhooks("delivered") == 2


@virtual_time
async def test_the_receiver_says_when_to_come_back():
    async with receiving() as (receiver, url):
        receiver.statuses, receiver.headers = [429], {"Retry-After": "30"}
        lab = Lab(make_rule(url))
        start_s = asyncio.get_running_loop().time()
        async with lab.actions:
            lab.bus.publish(make_alert())
            await receiver.until_called(2)
        assert 30 <= asyncio.get_running_loop().time() - start_s < 31


@virtual_time
@pytest.mark.parametrize(("status", "calls"), [(500, MAX_ATTEMPTS), (404, 1), (302, 1)])
async def test_it_gives_up_in_the_end(status: int, calls: int):
    async with receiving() as (receiver, url):
        receiver.statuses, receiver.headers = [status] * 20, {"Location": "http://127.0.0.1:9/"}
        lab = Lab(make_rule(url))
        async with lab.actions:
            lab.bus.publish(make_alert())
            await receiver.until_called(calls)
            await asyncio.sleep(300)
        assert len(receiver.calls) == calls
        assert lab.webhooks("failed") == 1


@virtual_time
async def test_nobody_listening_costs_nothing_but_that_alert(unused_tcp_port: int):
    lab = Lab(make_rule(f"http://127.0.0.1:{unused_tcp_port}/"))
    async with lab.actions:
        lab.bus.publish(make_alert())
        await asyncio.sleep(300)
    assert lab.webhooks("failed") == 1


@virtual_time
async def test_a_receiver_that_does_not_answer_holds_up_no_other():
    async with receiving() as (stuck, stuck_url), receiving() as (prompt, prompt_url):
        stuck.gate.clear()
        lab = Lab(make_rule(stuck_url, name="stuck"), make_rule(prompt_url, name="prompt"))
        async with lab.actions:
            loop = asyncio.get_running_loop()
            lab.bus.publish(make_alert(rule="stuck"))
            lab.bus.publish(make_alert(rule="prompt"))
            await prompt.until_called(1)
            assert loop.time() < 1
            await stuck.until_called(2)
            assert 10 < loop.time() < 12, "a call takes 10 s at most"
            stuck.gate.set()


@virtual_time
async def test_a_receiver_that_does_not_keep_up_loses_the_oldest(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(actions_module, "MAX_WAITING", 3)
    async with receiving() as (receiver, url):
        receiver.gate.clear()
        lab = Lab(make_rule(url))
        async with lab.actions:
            lab.bus.publish(make_alert(alert_id="s1-0"))
            await receiver.until_called(1)
            for number in range(1, 11):
                lab.bus.publish(make_alert(alert_id=f"s1-{number}"))
            await asyncio.sleep(0.1)
            receiver.gate.set()
            await receiver.until_called(4)
        assert [one.alert_id for one in receiver.alerts()] == ["s1-0", "s1-8", "s1-9", "s1-10"]
        assert lab.webhooks("dropped") == 7
    assert MAX_WAITING == 256


@virtual_time
async def test_what_waits_at_the_end_is_called_once_more():
    async with receiving() as (receiver, url):
        receiver.statuses = [500] * 10
        lab = Lab(make_rule(url))
        async with lab.actions:
            lab.bus.publish(make_alert(alert_id="s1-1"))
            lab.bus.publish(make_alert(alert_id="s1-2"))
        assert [alert.alert_id for alert in receiver.alerts()] == ["s1-1", "s1-2"]
        assert lab.webhooks("failed") == 2


@virtual_time
async def test_the_end_does_not_wait_for_a_receiver_that_does_not_answer():
    async with receiving() as (receiver, url):
        receiver.gate.clear()
        lab = Lab(make_rule(url))
        start_s = asyncio.get_running_loop().time()
        async with lab.actions:
            for number in range(5):
                lab.bus.publish(make_alert(alert_id=f"s1-{number}"))
            await receiver.until_called(1)
        assert asyncio.get_running_loop().time() - start_s <= 5.1
        assert lab.webhooks("dropped") == 4
        receiver.gate.set()


async def test_rules_without_a_webhook_are_logged_and_counted():
    lab = Lab(make_rule())
    with structlog.testing.capture_logs() as lines:
        async with lab.actions:
            lab.bus.publish(make_alert())
            lab.bus.publish(make_alert("cleared", at_s=9.0))
            lab.bus.publish(make_alert(rule="a rule of another server"))
    assert [line["event"] for line in lines] == ["alert_raised", "alert_cleared", "alert_raised"]
    assert lines[0] == {
        "event": "alert_raised",
        "log_level": "info",
        "alert_id": "s1-1",
        "stream_id": "s1",
        "rule": RULE,
        "severity": "critical",
        "at_s": 6.0,
    }
    value = lab.metrics.registry.get_sample_value
    labels = {"rule": RULE, "severity": "critical"}
    assert value("emotion_monitor_alerts_total", labels) == 1


@virtual_time
async def test_neither_the_url_nor_the_secret_is_logged(unused_tcp_port: int):
    lab = Lab(make_rule(f"http://127.0.0.1:{unused_tcp_port}/token-in-the-url", secret="a secret"))
    with structlog.testing.capture_logs() as lines:
        async with lab.actions:
            lab.bus.publish(make_alert())
            await asyncio.sleep(300)
    assert [line["event"] for line in lines] == ["alert_raised", "webhook_failed"]
    assert "token-in-the-url" not in str(lines)
    assert "a secret" not in str(lines)
