"""Against a real broker: mosquitto."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jinja2.sandbox import SandboxedEnvironment

from ser_engine.errors import ConfigError
from stream_server.bus import Bus
from stream_server.config import FeedsConfig
from stream_server.feeds import mqtt
from stream_server.feeds.discovery import Discovery
from stream_server.feeds.mqtt import (
    ChannelState,
    MqttPublisher,
    StreamState,
    next_state,
    parse_mqtt_url,
)
from stream_server.metrics import Metrics
from tests.support.mosquitto import Mosquitto
from tests.support.results import (
    make_alert,
    make_closed,
    make_gap,
    make_opened,
    make_point,
    make_points,
)
from tests.support.virtual_time import current_loop, virtual_time

BROKER = pytest.mark.needs("mosquitto", "aiomqtt")


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    broker = Mosquitto(tmp_path)
    await broker.start()
    yield broker
    await broker.stop()


class Lab:
    def __init__(self, broker: Mosquitto, topic: str = "emotions", **discovery: Any) -> None:
        self.bus, self.metrics = Bus(), Metrics()
        self.metrics.bus_from(self.bus.figures)
        feeds = FeedsConfig(
            mqtt_url=f"mqtt://127.0.0.1:{broker.port}",
            mqtt_topic=topic,
            mailbox_size=64,
            **discovery,
        )
        self.publisher = MqttPublisher(
            feeds, bus=self.bus, metrics=self.metrics, rng=random.Random(0)
        )

    def connected(self) -> bool:
        return self.metrics.registry.get_sample_value("emotion_monitor_mqtt_connected") == 1


@asynccontextmanager
async def listening(broker: Mosquitto) -> AsyncIterator[Any]:
    """Read ``(topic, payload)`` with a call; everything below ``emotions``."""
    import aiomqtt

    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe("emotions/#", qos=1)
        messages = aiter(client.messages)

        async def read() -> tuple[str, Any]:
            message = await asyncio.wait_for(anext(messages), 20)
            payload = bytes(message.payload)
            topic = str(message.topic).removeprefix("emotions/")
            return topic, json.loads(payload) if payload[:1] == b"{" else payload.decode()

        yield read


async def retained(broker: Mosquitto, root: str = "emotions") -> dict[str, Any]:
    """Return what the broker tells one who comes now, below a topic."""
    import aiomqtt

    found: dict[str, Any] = {}
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        await client.subscribe(f"{root}/#")
        await client.publish(f"{root}/end", b"")
        async for message in client.messages:
            if str(message.topic) == f"{root}/end":
                return found
            found[str(message.topic)] = bytes(message.payload)
    return found


def shown_by_home_assistant(config: dict[str, Any], state: bytes) -> tuple[str, dict[str, Any]]:
    """Return the value of a sensor and some of its attributes: it renders templates with Jinja."""
    value, attributes = (
        SandboxedEnvironment()
        .from_string(config[template])
        .render(value=state.decode(), value_json=json.loads(state))
        for template in ("value_template", "json_attributes_template")
    )
    some = {"label", "role", "alerts"}
    return value, {key: told for key, told in json.loads(attributes).items() if key in some}


@BROKER
async def test_results_states_and_status_are_published(broker: Mosquitto):
    lab = Lab(broker)
    async with listening(broker) as read:
        async with lab.publisher:
            assert await read() == ("status", "online")
            lab.bus.publish(make_opened())
            assert (await read())[0] == "s1/stream_opened"
            topic, state = await read()
            assert (topic, state["channels"]) == ("s1/state", [])
            lab.bus.publish(make_point(seq=1, angry=0.9))
            topic, point = await read()
            assert (topic, point["type"], point["label"]) == ("s1/point", "point", "angry")
            topic, state = await read()
            assert (topic, state["channels"][0]["label"]) == ("s1/state", "angry")
            lab.bus.publish(make_point(0.5, seq=2, angry=0.8))
            assert (await read())[0] == "s1/point"
            lab.bus.publish(make_alert(seq=3))
            assert (await read())[0] == "s1/alert"
            assert (await read())[1]["alerts"] == ["customer stays angry"]
            assert set(await retained(broker)) == {"emotions/status", "emotions/s1/state"}
            await read()  # the marker of retained()
            lab.bus.publish(make_closed(seq=4))
            assert (await read())[0] == "s1/stream_closed"
            assert await read() == ("s1/state", "")
            assert set(await retained(broker)) == {"emotions/status"}
            await read()
        assert await read() == ("status", "offline")


@BROKER
async def test_the_topics_of_teams_are_parted(broker: Mosquitto):
    lab = Lab(broker, "emotions/{team}")
    async with listening(broker) as read:
        async with lab.publisher:
            assert await read() == ("status", "online")
            for stream_id, team in (("a", "sales"), ("b", "")):
                opened = make_opened(stream_id)
                lab.bus.publish(msgspec.structs.replace(opened, team=team))
                lab.bus.publish(make_point(stream_id=stream_id))
                lab.bus.publish(make_closed(stream_id=stream_id))
            topics = {(await read())[0] for _ in range(12)}
        own = {f"sales/a/{kind}" for kind in ("stream_opened", "point", "stream_closed", "state")}
        assert topics == own | {topic.replace("sales/a", "-/b") for topic in own}


@BROKER
async def test_states_are_taken_away_when_the_server_stops(broker: Mosquitto):
    lab = Lab(broker)
    async with lab.publisher:
        lab.bus.publish(make_opened())
    assert await retained(broker) == {"emotions/status": b"offline"}


@BROKER
async def test_a_broker_that_was_away_gets_what_waited(
    broker: Mosquitto, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(mqtt, "_FIRST_DELAY_S", 0.05)
    monkeypatch.setattr(mqtt, "_LONGEST_DELAY_S", 0.05)
    lab = Lab(broker)
    async with lab.publisher:
        async with listening(broker) as read:
            lab.bus.publish(make_opened())
            while (await read())[0] != "s1/state":
                pass
        await broker.stop()
        while lab.connected():  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
        for point in make_points([0.1] * 100):
            lab.bus.publish(point)
        lab.bus.publish(make_alert(seq=101))
        await broker.start()
        async with listening(broker) as read:
            topics = set()
            while "s1/alert" not in topics:
                topics.add((await read())[0])
        assert set(await retained(broker)) >= {"emotions/status", "emotions/s1/state"}
    dropped = lab.metrics.registry.get_sample_value(
        "emotion_monitor_results_dropped_total", {"subscriber": "mqtt"}
    )
    assert dropped is not None
    assert dropped >= 100 - 64


@BROKER
async def test_what_waits_at_the_end_is_published(broker: Mosquitto):
    lab = Lab(broker)
    async with listening(broker) as read:
        async with lab.publisher:
            assert await read() == ("status", "online")
            lab.bus.publish(make_opened())
            lab.bus.publish(make_alert(seq=1))
        topics = [(await read())[0] for _ in range(6)]
        assert topics == [
            "s1/stream_opened",
            "s1/state",
            "s1/alert",
            "s1/state",
            "s1/state",
            "status",
        ]


@BROKER
async def test_home_assistant_is_told_of_live_streams_and_of_their_end(broker: Mosquitto):
    lab = Lab(broker, mqtt_discovery_streams=1, mqtt_discovery_prefix="home/assistant")
    async with listening(broker) as read, lab.publisher:
        lab.bus.publish(make_opened(roles=("customer", "agent")))
        lab.bus.publish(make_point(seq=1, angry=0.9))
        lab.bus.publish(make_opened("s2"))  # one more than are announced
        while (await read())[0] != "s2/state":
            pass
        sensors = [f"home/assistant/sensor/emotions_s1_{index}/config" for index in range(2)]
        found = await retained(broker, "home")
        assert sorted(found) == sensors
        config = json.loads(found[sensors[0]])
        assert config["state_topic"] == config["json_attributes_topic"] == "emotions/s1/state"
        assert config["availability_topic"] == "emotions/status"
        assert (config["name"], config["unique_id"]) == ("customer", "emotions_s1_0")
        state = (await retained(broker))["emotions/s1/state"]
        shown = shown_by_home_assistant(config, state)
        assert shown == ("angry", {"label": "angry", "role": "customer", "alerts": []})
        for told in ("a call", "42"):  # name and metadata of the stream
            assert told not in str(found)
        lab.bus.publish(make_closed(seq=2))
        while await read() != ("s1/state", ""):
            pass
        assert await retained(broker, "home") == {}
        lab.bus.publish(make_opened("s3"))
        while set(await retained(broker, "home")) != {sensors[0].replace("_s1_", "_s3_")}:
            pass
    assert await retained(broker, "home") == {}


@BROKER
async def test_what_home_assistant_was_told_before_a_crash_is_taken_back(broker: Mosquitto):
    import aiomqtt

    others = {
        "homeassistant/sensor/emotions-2_s1_0/config": b"{}",
        "homeassistant/sensor/lamp/config": b"{}",
    }
    left = "homeassistant/sensor/emotions_s0_0/config"
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic, payload in {**others, left: b"{}"}.items():
            await client.publish(topic, payload, qos=1, retain=True)
        await client.subscribe(left)
        messages = aiter(client.messages)
        assert (await asyncio.wait_for(anext(messages), 20)).payload
        async with Lab(broker, mqtt_discovery_streams=8).publisher:
            assert not (await asyncio.wait_for(anext(messages), 20)).payload
    assert await retained(broker, "homeassistant") == others


@BROKER
async def test_what_home_assistant_was_told_goes_with_an_erased_stream(broker: Mosquitto):
    import aiomqtt

    lab = Lab(
        broker, "emotions/{team}", mqtt_discovery_streams=8, mqtt_discovery_prefix="home/{team}"
    )
    topics = [f"home/{team}/sensor/emotions_s1_7/config" for team in ("sales", "support")]
    async with aiomqtt.Client("127.0.0.1", broker.port) as client:
        for topic in topics:
            await client.publish(topic, b"{}", qos=1, retain=True)
    await lab.publisher.forget("s1", "sales")
    assert await retained(broker, "home") == {topics[1]: b"{}"}


@pytest.mark.needs("aiomqtt")
@virtual_time
async def test_the_end_does_not_wait_for_a_broker_that_is_not_there(unused_tcp_port: int):
    bus, metrics = Bus(), Metrics()
    feeds = FeedsConfig(mqtt_url=f"mqtt://127.0.0.1:{unused_tcp_port}", mailbox_size=16)
    publisher = MqttPublisher(feeds, bus=bus, metrics=metrics)
    loop = current_loop()
    async with publisher:
        bus.publish(make_opened())
        with loop.frozen():
            await asyncio.to_thread(lambda: None)  # it connects in a thread
        started_s = loop.time()
    assert loop.time() - started_s <= 5.1
    assert bus.subscriptions == ()


def test_a_state_changes_with_labels_and_alerts_only():
    state = next_state(None, make_opened())
    assert state == StreamState(stream_id="s1", seq=0)
    angry = next_state(state, make_point(2.0, seq=1, angry=0.9))
    assert angry is not None
    (channel,) = angry.channels
    assert (channel.label, channel.role, channel.since_s) == ("angry", "customer", 2.0)
    assert next_state(angry, make_point(2.5, seq=2, angry=0.8)) is angry
    assert next_state(angry, make_gap(seq=3)) is angry
    raised = next_state(angry, make_alert(seq=4))
    assert raised is not None
    assert raised.alerts == ("customer stays angry",)
    cleared = next_state(raised, make_alert("cleared", seq=5))
    assert cleared is not None
    assert cleared.alerts == ()
    assert next_state(None, make_point()) is None


def test_the_url_of_a_broker():
    broker = parse_mqtt_url("mqtt://user:p%40ss@broker.example:1884")
    assert (broker.host, broker.port, broker.tls) == ("broker.example", 1884, False)
    assert (broker.username, broker.password) == ("user", "p@ss")
    assert "p@ss" not in repr(broker)
    assert parse_mqtt_url("mqtt://broker").port == 1883
    assert parse_mqtt_url("mqtts://broker").port == 8883


@pytest.mark.parametrize("url", ["mqtt://", "http://broker", "mqtt://broker:none", "mqtt://:1883"])
def test_a_url_without_a_broker_is_refused(url: str):
    with pytest.raises(ConfigError, match=r"feeds\.mqtt_url"):
        parse_mqtt_url(url)


@pytest.mark.parametrize(
    "topic", ["", "/", "{team}", "emotions/#", "+/emotions", "emotions/x{team}"]
)
def test_a_topic_that_cannot_be_published_to_is_refused(topic: str):
    with pytest.raises(ConfigError, match=r"feeds\.mqtt_topic"):
        feeds = FeedsConfig(mqtt_url="mqtt://broker", mqtt_topic=topic)
        MqttPublisher(feeds, bus=Bus(), metrics=Metrics())


def test_teams_are_parted_in_what_home_assistant_is_told_or_it_is_told_nothing():
    with pytest.raises(ConfigError, match=r"feeds\.mqtt_discovery_prefix.*\{team\}"):
        feeds = FeedsConfig(
            mqtt_url="mqtt://broker", mqtt_topic="emotions/{team}", mqtt_discovery_streams=1
        )
        MqttPublisher(feeds, bus=Bus(), metrics=Metrics())


def test_a_sensor_of_home_assistant_is_unknown_before_it_is_unclear():
    discovery = Discovery(("homeassistant",), "emotions", 1)
    opened = make_opened(roles=("customer", "agent"))
    first, second = opened.channels
    unheard = msgspec.structs.replace(second, analysed=False)
    (payload,) = discovery.configs(
        msgspec.structs.replace(opened, channels=(first, unheard)),
        prefix="homeassistant",
        state_topic="state",
        status_topic="status",
    ).values()
    state = StreamState(stream_id="s1", seq=0)
    unclear = ChannelState(
        channel=0, role="customer", label=None, best="sad", confidence=0.4, since_s=0.0
    )
    told = msgspec.structs.replace(state, channels=(unclear,), alerts=("low",))
    config = json.loads(payload)
    attributes = {"label": None, "role": "customer", "alerts": ["low"]}
    assert shown_by_home_assistant(config, msgspec.json.encode(state)) == ("None", {"alerts": []})
    assert shown_by_home_assistant(config, msgspec.json.encode(told)) == ("unclear", attributes)
