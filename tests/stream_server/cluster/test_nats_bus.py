"""Servers that meet at a real NATS server."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from emotion_monitor.local_services import NatsServer
from stream_server import tracing
from stream_server.access import AccessConfig, ListenConfig
from stream_server.access.policy import Given
from stream_server.alerts import AlertRule, AlertsConfig
from stream_server.alerts.evaluator import Cooldown
from stream_server.bus import Bus
from stream_server.cluster.nats_bus import Here, NatsBus
from stream_server.cluster.outbox import Outbox
from stream_server.config import BusConfig, LimitsConfig, ServerConfig, StoreConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.asterisk import AudioSocketConfig
from stream_server.server import Server
from stream_server.store.audit import AuditEntry
from stream_server.streams.ingest import LocalIngest
from stream_server.streams.live_streams import LiveStreams
from stream_server.streams.registry import StreamRegistry
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import ConsentTold, Heartbeat, Ready, Told
from stream_server.wire.results import Alert, Result, StreamClosed
from tests.requirements import REPOSITORY
from tests.support.live_lab import LabEngine, receive_all, receive_until, send, start
from tests.support.results import make_alert, make_closed, make_opened, make_point
from tests.support.spans import recorded_spans
from tests.support.waiting import until

TOKEN = "for the calls of two servers"
pytestmark = pytest.mark.needs("nats", "nats-server")


class Member:
    """A server, as far as the bus between servers is concerned."""

    def __init__(self, name: str, url: str, folder: Path) -> None:
        self.own, self.all = Bus(), Bus()
        self.live = LiveStreams(self.all)
        self._seen = self.all.subscribe(name="test", capacity=10_000)
        self.results: list[Result] = []
        self.acknowledged: list[str] = []
        self.named: list[str] = []
        self.told: list[str] = []
        self.of_token: dict[str, int] = {}
        self.elsewhere: list[dict[str, int]] = []
        here = Here(
            publish=self.all.publish,
            heartbeat=self._heartbeat,
            tell=self._tell,
            object=self._object,
            of_token=lambda: dict(self.of_token),
            held_elsewhere=self.elsewhere.append,
            acknowledged=self.acknowledged.append,
            named=self.named.append,
        )
        config = BusConfig(url=url, name=name, outbox_dir=str(folder))
        self.bus = NatsBus(config, name, own=self.own, live=self.live, here=here)

    def publish(self, *results: Result) -> None:
        for result in results:
            self.own.publish(result)
            self.all.publish(result)

    def seen(self, stream_id: str) -> list[int]:
        """Return the numbers of all results of a stream so far."""
        self.results += self._seen.take_waiting()
        return [one.seq for one in self.results if one.stream_id == stream_id]

    def _heartbeat(self, stream_id: str) -> Heartbeat:
        return Heartbeat(
            stream_id=stream_id,
            received_samples=16_000,
            received_s=1.0,
            published_s=0.5,
            lag_ms=500.0,
            real_time_factor=0.1,
            effective_step_ms=500.0,
        )

    def _tell(self, stream_id: str, told: Told) -> bool:
        assert isinstance(told, ConsentTold)
        self.told.append(f"{stream_id} {told.consent}")
        return True

    async def _object(self, stream_id: str) -> bool:
        self.publish(make_closed(stream_id, seq=99, reason="objected"))
        return True


@asynccontextmanager
async def members(*names: str, url: str, folder: Path) -> AsyncIterator[list[Member]]:
    async with contextlib.AsyncExitStack() as stack:
        made = [Member(name, url, folder) for name in names]
        for one in made:
            await stack.enter_async_context(one.bus)
            # Before that is left, as a server does.
            stack.callback(one.own.close)
        yield made


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    running = NatsServer(tmp_path / "jetstream")
    await asyncio.to_thread(running.start)
    yield running
    running.kill()


async def test_each_server_shows_the_streams_of_all(server: NatsServer, tmp_path: Path):
    async with members("one", "two", url=server.url, folder=tmp_path) as (one, two):
        await until(lambda: len(one.bus.others) == len(two.bus.others) == 1)
        one.publish(make_opened("a"), make_point(0.0, stream_id="a"))
        two.publish(make_opened("b"))
        await until(lambda: two.seen("a") == [0, 1] and one.seen("b") == [0])
        await until(lambda: two.bus.heartbeat("a") is not None)
        # What is done at one of them reaches the one that runs the stream.
        assert two.bus.tell("a", ConsentTold(consent="given", source="the agent"))
        await until(lambda: one.told == ["a given"])
        two.bus.acknowledge("a-1")
        await until(lambda: one.acknowledged == ["a-1"])
        two.bus.name_speaker("a")
        await until(lambda: one.named == ["a"] and two.named == [])
        assert await two.bus.object("a")
        await until(lambda: 99 in two.seen("a"))
        assert not await two.bus.object("a")
        # One that starts later shows what runs by now.
        async with members("three", url=server.url, folder=tmp_path) as (three,):
            await until(lambda: three.seen("b") == [0])
            assert three.seen("a") == []
            three.publish(make_opened("c"))
            await until(lambda: one.seen("c") == [0])
        # It left: its streams do not wait to be missed.
        await until(lambda: isinstance(one.results[-1], StreamClosed) or one.seen("c") == [0, 1])


async def test_an_outage_loses_no_alert_and_leaves_the_picture_whole(
    server: NatsServer, tmp_path: Path
):
    async with members("one", "two", url=server.url, folder=tmp_path) as (one, two):
        await until(lambda: len(two.bus.others) == 1)
        one.publish(make_opened("a"), make_point(0.0, stream_id="a", seq=1))
        await until(lambda: two.seen("a") == [0, 1])
        await until(lambda: one.bus.num_kept == 0)
        server.kill()
        await until(lambda: not one.bus.is_connected and not two.bus.is_connected)
        one.publish(
            make_alert(stream_id="a", seq=2, alert_id="a-1"),
            make_point(0.5, stream_id="a", seq=3),
            make_alert("cleared", stream_id="a", seq=4, alert_id="a-1"),
        )
        two.bus.acknowledge("a-1")
        done = AuditEntry(at=1.5, kind="user", name="ann", address="::1", action="stream_deleted")
        two.bus.audit(done)
        await until(lambda: one.bus.num_kept == 2 and two.bus.num_kept == 2)
        await asyncio.to_thread(server.start)
        await until(lambda: one.bus.num_kept == 0 and two.bus.num_kept == 0)
        await until(lambda: one.acknowledged == ["a-1"])
        await until(lambda: two.live.snapshot("a")[0].last_seq == 4)
        two.seen("a")
        alerts = [each.state for each in two.results if isinstance(each, Alert)]
        assert sorted(alerts) == ["cleared", "raised"]
        kept = await _kept(server.url, "alert", Alert, 2)
        assert [(each.alert_id, each.state) for each in kept] == [
            ("a-1", "raised"),
            ("a-1", "cleared"),
        ]
        assert await _kept(server.url, "audit", AuditEntry, 1) == [done]


@pytest.mark.needs("tracing")
async def test_the_trace_of_a_point_goes_on_at_the_other_server(server: NatsServer, tmp_path: Path):
    with recorded_spans() as exporter:
        async with members("one", "two", url=server.url, folder=tmp_path) as (one, two):
            await until(lambda: len(one.bus.others) == len(two.bus.others) == 1)
            trace = tracing.begin_window("a", 0, time.time_ns())
            assert trace is not None
            tracing.work_on(trace)
            traced = make_point(0.0, stream_id="a", seq=1)
            tracing.publishing(traced)
            tracing.work_on(None)
            one.publish(make_opened("a"), traced, make_point(0.5, stream_id="a", seq=2))
            trace.end("scored")
            await until(lambda: two.seen("a") == [0, 1, 2])
        (shown,) = (each for each in exporter.get_finished_spans() if each.name == "shown")
        assert f"{shown.context.trace_id:032x}" == trace.trace_id
        assert shown.attributes == {"server": "two"}


class Gateway:
    """A whole server, and a token that may have two streams."""

    def __init__(
        self, name: str, url: str, folder: Path, rules: tuple[AlertRule, ...] = ()
    ) -> None:
        config = ServerConfig(
            listen=ListenConfig("127.0.0.1", 0, 0),
            access=AccessConfig(tokens={"calls": TOKEN}, refusal_delay_ms=0),
            limits=LimitsConfig(max_streams_per_token=2),
            alerts=AlertsConfig(rules=rules),
            store=StoreConfig(url=f"sqlite:///{folder}/timelines.db"),
            telephony=TelephonyConfig(audiosocket=AudioSocketConfig(port=-1)),
            bus=BusConfig(url=url, name=name, outbox_dir=str(folder)),
        )
        engine: Any = LabEngine()
        engine.status = lambda: SimpleNamespace(engines=[engine])
        self.server = Server(engine.config, config, engines=engine)

    def connect(self, path: str = "") -> connect:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        return connect(self.server.ingest_url + path, additional_headers=headers)

    @property
    def registry(self) -> StreamRegistry:
        ingest = self.server.ingest
        assert isinstance(ingest, LocalIngest)
        return ingest.registry

    def is_full(self) -> bool:
        try:
            self.registry.check_capacity("calls")
        except ProtocolError:
            return True
        return False


async def test_a_tokens_limit_holds_for_both_servers_together(server: NatsServer, tmp_path: Path):
    one, two = (Gateway(name, server.url, tmp_path) for name in ("one", "two"))
    async with contextlib.AsyncExitStack() as stack:

        async def begin(at: Gateway) -> ClientConnection:
            socket = await stack.enter_async_context(at.connect())
            await socket.send(start())
            await receive_until(socket, Ready)
            return socket

        for each in (one, two):
            await stack.enter_async_context(each.server)
        await begin(one)
        second = await begin(two)
        await until(lambda: one.is_full() and two.is_full())
        with pytest.raises(InvalidStatus) as refused:
            await one.connect("/?sample_rate=16000")
        assert refused.value.response.status_code == 429
        with capture_logs() as logs:
            server.kill()
            # Each counts its own streams, of which both have one.
            await until(lambda: not one.is_full() and not two.is_full())
        assert [each["event"] for each in logs].count("limits_counted_alone") == 2
        third = await begin(one)
        await asyncio.to_thread(server.start)
        # Not what was known before the outage.
        await until(lambda: two.registry.elsewhere.of_token == {"calls": 2})
        # Three by now: there is room when two have ended, one at each.
        for socket in (second, third):
            assert two.is_full()
            await send(socket, type="stop")
            await receive_all(socket)
        await until(lambda: not two.is_full())


async def test_a_session_is_one_for_all_servers_of_a_database(server: NatsServer, tmp_path: Path):
    one, two = (Gateway(name, server.url, tmp_path).server for name in ("one", "two"))
    async with one, two:
        session = one.access.log_in("", TOKEN, "here")
        cookie = one.access.sessions.cookie(session)
        kept = two.access.session(cookie)
        assert kept is not None
        two.access.log_out(kept)
        assert two.store is not None
        await two.store.flush()
        await one.refresh_access()
        assert one.access.session(cookie) is None
        # So is what an OpenID Connect provider ends, and what began after that goes on.
        given = Given("anna", "viewer", None)
        former = one.access.begin_given(given, "subject 1", "sid 1")
        two.access.end_given("subject 1", "sid 1", at=former.begun_at)
        two.access.end_given("subject 1", "sid 1", at=former.begun_at - 60)
        await two.store.flush()
        await one.refresh_access()
        assert not one.access.is_open(former)
    # Not even a restart brings one back.
    async with Gateway("one", server.url, tmp_path).server as again:
        assert again.access.session(cookie) is None
        assert not again.access.is_open(former)
        assert again.access.sessions.ended_elsewhere.popitem()[1] == former.begun_at


async def test_a_cooldown_goes_on_where_the_stream_goes_on(
    server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rule = AlertRule(name="shouts", labels=("angry",), threshold=0.5, cooldown_s=120)
    one, two = (Gateway(name, server.url, tmp_path, (rule,)).server for name in ("one", "two"))
    async with one, two:
        assert one.store is not None and isinstance(two.ingest, LocalIngest)
        cleared = make_alert("cleared", stream_id="former", rule="shouts", seq=2)
        one.store.write(msgspec.structs.replace(make_opened("former"), opened_at=time.time()))
        one.store.write(make_alert(stream_id="former", rule="shouts"))
        one.store.write(cleared)
        await one.store.flush()
        cooled: list[tuple[str, tuple[Cooldown, ...]]] = []
        monkeypatch.setattr(two.ingest, "cool", lambda *told: cooled.append(told))
        token = two._resume_tokens.make("former")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with connect(two.ingest_url, additional_headers=headers) as socket:
            await socket.send(start(resume={"token": token, "next_sample": 0}))
            await receive_until(socket, Ready)
            await until(lambda: cooled)
    ((_, (cooldown,)),) = cooled
    assert (cooldown.rule, cooldown.channel) == ("shouts", 0)
    # By the clock of the former stream; this one began a little later.
    most = cleared.at_sample + 120 * 16_000
    assert most - 60 * 16_000 < cooldown.until_sample <= most


async def _kept(url: str, kind: str, of: type[Any], number: int) -> list[Any]:
    """Return all of a kind that JetStream has, as a subscriber that was away gets them."""
    import nats
    from nats.js.api import DeliverPolicy

    connection = await nats.connect(url)
    try:
        consumer = await connection.jetstream().subscribe(
            f"emotion-monitor.kept.{kind}.*", deliver_policy=DeliverPolicy.ALL
        )
        found = []
        for _ in range(number):
            message = await consumer.next_msg(timeout=10)
            found.append(msgspec.json.decode(message.data, type=of))
        assert consumer.pending_msgs == 0
        return found
    finally:
        await connection.close()


def test_what_waits_for_the_bus_outlives_the_process_and_is_bounded(tmp_path: Path):
    box = Outbox(tmp_path / "kept" / "one.db", 3)
    for number in range(3):
        box.put("alerts", f"key {number}", b"%d" % number)
    box.put("alerts", "key 2", b"again")
    assert (len(box), box.dropped) == (3, 0)
    box.put("alerts", "key 3", b"3")
    assert (len(box), box.dropped) == (3, 1)
    box.close()
    again = Outbox(tmp_path / "kept" / "one.db", 3)
    kept = again.oldest(2)
    assert [(one.key, one.payload) for one in kept] == [("key 1", b"1"), ("key 2", b"2")]
    again.remove([one.id for one in kept])
    assert [one.key for one in again.oldest(9)] == ["key 3"]
    again.close()


def test_the_outbox_is_closed_after_the_thread_that_a_cancelled_task_left_behind(tmp_path: Path):
    # SQLite crashes the process that closes a file while another thread reads it.
    program = f"""
import threading
from pathlib import Path
from stream_server.cluster.outbox import Outbox

def read():
    try:
        while True:
            box.oldest(256)
            reads.release()
    except Exception:
        pass

for number in range(30):
    box, reads = Outbox(Path({str(tmp_path / "one.db")!r}), 1000), threading.Semaphore(0)
    for each in range(100 if number == 0 else 0):
        box.put("alerts", str(each), b"payload")
    reader = threading.Thread(target=read)
    reader.start()
    reads.acquire()
    box.close()
    reader.join()
"""
    ran = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, check=False)
    assert ran.returncode == 0
