"""The whole server with the built-in model, as a client, a program and an operator see it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import numpy as np
import pytest
import soundfile
import soxr
from structlog.testing import capture_logs
from websockets.asyncio.client import connect

from mic_client import ArraySource, FileSource, StreamClient, StreamOptions, load_sample_call
from mic_client.sources import MAX_SPEED
from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.core.factory import build_engine
from ser_engine.errors import ConfigError
from ser_engine.files import StreamResult, analyze_file
from stream_server.access import AccessConfig, ListenConfig
from stream_server.alerts import AlertRule, AlertsConfig, replay
from stream_server.config import RecordingConfig, ServerConfig, StoreConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.asterisk import AudioSocketConfig
from stream_server.platforms.asterisk import server as audiosocket_server
from stream_server.platforms.asterisk.audiosocket import HANGUP, encode_audio, encode_uuid
from stream_server.server import Server
from stream_server.store import Store
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.results import Alert, Gap, Measures, Point, Segment, Summary

ENGINE = EngineConfig(model=ModelConfig(name="compact", offline=True))
ANY_PORT = TelephonyConfig(audiosocket=AudioSocketConfig(port=0))
NO_PORT = TelephonyConfig(audiosocket=AudioSocketConfig(port=-1))


def settings(folder: Path, **groups: Any) -> ServerConfig:
    groups = {"telephony": ANY_PORT, **groups}
    return ServerConfig(
        listen=ListenConfig("127.0.0.1", 0, 0),
        store=StoreConfig(url=f"sqlite:///{folder}/timelines.db", write_interval_ms=50),
        **groups,
    )


@asynccontextmanager
async def serving(folder: Path, **groups: Any) -> AsyncIterator[Server]:
    async with Server(ENGINE, settings(folder, **groups)) as server:
        yield server


async def stream_file(server: Server, path: Path, *roles: str) -> list[Any]:
    """Stream a recording as fast as the server takes it; return every message."""
    source = FileSource(path, speed=MAX_SPEED)
    options = StreamOptions(channels=tuple(ChannelSpec(role=role) for role in roles))
    async with StreamClient(source, server.ingest_url, options) as client:
        return [message async for message in client]


@pytest.fixture
def call(tmp_path: Path) -> Path:
    """The sample call, as a file."""
    return write_call(tmp_path, 16_000)


def write_call(folder: Path, rate_hz: int) -> Path:
    samples, rate = load_sample_call()
    path = folder / f"call{rate_hz}.wav"
    soundfile.write(path, soxr.resample(samples, rate, rate_hz), rate_hz, subtype="PCM_16")
    return path


def rounded(values: Any) -> tuple[float, ...]:
    return tuple(round(float(value), 5) for value in values)


async def test_a_stream_says_what_the_file_says(tmp_path: Path):
    """Promise 3: streaming a file through the server, and analysing it as a stream.

    Other rates and encodings: ``streams/test_stream_equals_file.py``.
    """
    rate_hz = 44_100
    call = write_call(tmp_path, rate_hz)
    async with serving(tmp_path) as server:
        seen = await stream_file(server, call, "caller", "customer")
    engine = build_engine(ENGINE)
    for channel, expected in enumerate(analyze_file(engine, call, "stream", ENGINE)):
        assert isinstance(expected, StreamResult)
        points = [m for m in seen if isinstance(m, Point) and m.channel == channel]
        assert [(p.start_sample, p.end_sample, p.label) for p in points] == [
            (p.start_sample, p.end_sample, p.label) for p in expected.points
        ]
        for ours, file in zip(points, expected.points, strict=True):
            np.testing.assert_allclose(ours.posteriors, file.posteriors, atol=2e-4)
        ours_tiles = [
            (m.start_sample, m.end_sample, m.label if isinstance(m, Segment) else m.reason)
            for m in seen
            if isinstance(m, Segment | Gap) and m.final and m.channel == channel
        ]
        assert sorted(ours_tiles) == sorted(
            [(e.start_sample, e.end_sample, e.label) for e in expected.segments]
            + [(e.start_sample, e.end_sample, e.reason) for e in expected.gaps]
        )


async def test_what_was_streamed_is_stored_fed_and_counted(tmp_path: Path, call: Path):
    rule = AlertRule(
        name="anything",
        labels=("neutral", "angry", "happy", "sad"),
        threshold=0.1,
        clear_threshold=0.0,
        hold_s=1.0,
    )
    # Of the measures at 5, 10, ... seconds; it is the third or a later one that is enough.
    talks = replace(rule, name="talks long", measures={"talk_s": 7.0})
    rules = (rule, talks)
    async with serving(tmp_path, alerts=AlertsConfig(rules=rules)) as server:
        async with aiohttp.ClientSession() as http:
            feed = await http.ws_connect(f"{server.http_url}/feed")
            assert (await feed.receive_json())["type"] == "snapshot"
            seen = await stream_file(server, call, "caller", "customer")
            summary = next(m for m in seen if isinstance(m, Summary))
            fed: list[dict[str, Any]] = []
            while not fed or fed[-1]["type"] != "stream_closed":
                fed.append(await feed.receive_json())
            await feed.close()
            assert [m["seq"] for m in fed] == sorted(m["seq"] for m in fed)
            assert sum(m["type"] == "point" for m in fed) == sum(isinstance(m, Point) for m in seen)

            assert server.store is not None
            await server.store.flush()
            (record,) = await server.store.list_streams()
            assert (record.reason, record.duration_s) == ("stopped", summary.duration_s)
            stored = await server.store.results(record.stream_id, kinds=["point"])
            assert stored is not None
            points = [m for m in seen if isinstance(m, Point)]
            assert [rounded(m.posteriors) for m in stored.results if isinstance(m, Point)] == [
                rounded(m.posteriors) for m in points
            ]
            raised = [m for m in seen if isinstance(m, Alert) and m.state == "raised"]
            assert raised
            assert summary.alerts == len(raised)
            assert len(await server.store.alerts()) == len(raised)
            await check_replay(server.store, record.stream_id, rules, seen)

            async with http.get(f"{server.http_url}/readyz") as response:
                assert await response.json() == {"ready": True, "reasons": []}
            async with http.get(f"{server.http_url}/metrics") as response:
                text = await response.text()
    figures = dict(
        line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")
    )
    assert float(figures["emotion_monitor_points_total"]) == len(points)
    assert float(figures['emotion_monitor_streams_closed_total{reason="stopped"}']) == 1
    assert float(figures["emotion_monitor_streams"]) == 0
    assert float(figures["emotion_monitor_batch_size_count"]) > 10
    assert float(figures["emotion_monitor_inference_seconds_count"]) > 10
    assert float(figures["emotion_monitor_queue_wait_seconds_count"]) > 10
    assert float(figures["emotion_monitor_store_written_total"]) > len(points)
    assert 'emotion_monitor_model_info{model="compact",runtime="torch fp32 cpu"}' in figures


async def check_replay(
    store: Store, stream_id: str, rules: tuple[AlertRule, ...], seen: list[Any]
) -> None:
    """Rules tried on what is stored raise and clear what they did while the stream ran."""
    results = [one async for page in store.pages(stream_id) for one in page]
    assert sum(isinstance(one, Measures) for one in results) > 3
    tried = {
        (count.rule.name, alert.channel, state, at_s)
        for count in replay.replay(rules, replay.timelines_of(results)).rules
        for alert in count.alerts
        for state, at_s in (("raised", alert.raised_s), ("cleared", alert.cleared_s))
    }
    alerts = [one for one in seen if isinstance(one, Alert)]
    assert {(one.rule, one.channel, one.state, one.at_s) for one in alerts} == tried
    at_s = {
        name: min(one.at_s for one in alerts if one.rule == name)
        for name in (rule.name for rule in rules)
    }
    assert at_s["talks long"] > at_s["anything"] + 5


async def test_audio_is_kept_only_where_an_operator_wants_it(tmp_path: Path, call: Path):
    folder = tmp_path / "recordings"
    async with serving(tmp_path, recording=RecordingConfig(dir=str(folder))) as server:
        await stream_file(server, call, "agent", "customer")
    assert not folder.exists()
    on = RecordingConfig(enabled=True, dir=str(folder))
    async with serving(tmp_path, recording=on) as server:
        await stream_file(server, call, "agent", "customer")
    files = sorted(folder.glob("*.flac"))
    assert len(files) == 2
    samples, _ = soundfile.read(call, dtype="int16")
    for channel, file in enumerate(files):
        kept, rate = soundfile.read(file, dtype="int16")
        assert rate == 16_000
        np.testing.assert_allclose(kept, samples[:, channel], atol=1)


async def test_a_restarted_server_is_found_again(tmp_path: Path):
    """The old stream is closed in the store; the client goes on with a new one."""
    samples = np.tile(load_sample_call()[0][:, 1], 3)
    seen: list[Any] = []
    first = Server(ENGINE, settings(tmp_path))
    await first.__aenter__()
    port = int(first.ingest_url.rpartition(":")[2])
    source = ArraySource(samples, 16_000, speed=40)
    async with StreamClient(source, first.ingest_url) as client:
        again: Server | None = None
        async for message in client:
            seen.append(message)
            if again is None and sum(isinstance(m, Point) for m in seen) == 5:
                await first.__aexit__(None, None, None)
                config = settings(tmp_path)
                config = replace(config, listen=ListenConfig("127.0.0.1", port, 0))
                again = Server(ENGINE, config)
                await again.__aenter__()
        assert again is not None
        await again.__aexit__(None, None, None)
    assert again.store is not None
    ids = {m.stream_id for m in seen if isinstance(m, Point)}
    assert len(ids) == 2
    assert [m.reason for m in seen if isinstance(m, Summary)] == ["server_stopped", "stopped"]
    scored_s = sum(m.duration_s for m in seen if isinstance(m, Summary))
    assert scored_s == pytest.approx(len(samples) / 16_000, abs=35)


async def test_asterisk_is_taken_in_beside(tmp_path: Path):
    call = UUID("40325ec2-5efd-4bd3-805f-53576e581d13")
    async with serving(tmp_path) as server:
        assert server.port_of("audiosocket") is not None
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port_of("audiosocket"))
        writer.write(encode_uuid(call) + encode_audio(bytes(16_000)))
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port_of("audiosocket"))
        writer.write(HANGUP)
        assert await reader.read() == HANGUP
        writer.close()
        async with (
            aiohttp.ClientSession(server.http_url) as http,
            http.get("/metrics") as response,
        ):
            refused = 'refused_total{reason="bad_start",route="audiosocket"} 1.0'
            assert refused in await response.text()
        # One that is cut off by the server's end.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port_of("audiosocket"))
        writer.write(encode_uuid(UUID(int=1)) + encode_audio(bytes(16_000)))
        names: set[str] = set()
        while str(UUID(int=1)) not in names:
            await asyncio.sleep(0.01)
            names = {stream.opened.name for stream in server.live_streams.snapshot()}
        goodbye = asyncio.ensure_future(reader.read())
        goodbye.add_done_callback(lambda _: writer.close())
    assert await goodbye == HANGUP
    store = await Store.open(settings(tmp_path).store)
    records = await store.list_streams()
    await store.close()
    assert {(record.name, record.reason) for record in records} == {
        (str(call), "stopped"),
        (str(UUID(int=1)), "server_stopped"),
    }


async def test_a_rule_for_a_label_no_model_has_is_said_at_once(tmp_path: Path):
    rule = AlertRule(name="bored", labels=("bored",))
    with pytest.raises(ConfigError, match="bored"):
        async with serving(tmp_path, alerts=AlertsConfig(rules=(rule,))):
            pass


async def test_a_port_in_use_is_said_at_once(tmp_path: Path):
    async with serving(tmp_path) as server:
        port = int(server.ingest_url.rpartition(":")[2])
        config = ServerConfig(
            listen=ListenConfig("127.0.0.1", port, 0), store=StoreConfig(url=""), telephony=NO_PORT
        )
        expected = f"got listen.port {port} at .*: address already in use; .*--port$"
        with pytest.raises(OSError, match=f"^{expected}"):
            async with Server(ENGINE, config):
                pass
        listen = ListenConfig("127.0.0.1", 0, int(server.http_url.rpartition(":")[2]))
        with pytest.raises(OSError, match=r"^got listen.http_port .*--http-port$"):
            async with Server(ENGINE, replace(config, listen=listen)):
                pass
        audiosocket = AudioSocketConfig(port=server.port_of("audiosocket") or 0)
        config = replace(
            config,
            listen=ListenConfig("127.0.0.1", 0, 0),
            telephony=TelephonyConfig(audiosocket=audiosocket),
        )
        expected = (
            f"got telephony.audiosocket.port {audiosocket.port} at 127.0.0.1: address already in"
            " use; .*set it to -1 to do without$"
        )
        with pytest.raises(OSError, match=f"^{expected}"):
            async with Server(ENGINE, config):
                pass


async def test_the_default_port_for_asterisk_may_be_another_programs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = AudioSocketConfig(port=other.getsockname()[1])
        monkeypatch.setattr(audiosocket_server, "AudioSocketConfig", lambda: taken)
        config = replace(settings(tmp_path), telephony=TelephonyConfig(audiosocket=taken))
        with capture_logs() as logs:
            async with Server(ENGINE, config) as server:
                assert server.port_of("audiosocket") is None
    (line,) = (line for line in logs if line["event"] == "audiosocket_not_listening")
    assert "address already in use" in line["reason"]
    assert line["log_level"] == "warning"


async def test_an_address_that_cannot_be_had_is_said_at_once():
    # Beyond loopback a server without TLS must be told that a proxy has it.
    access = AccessConfig(tokens={"one": "0123456789abcdef"}, behind_proxy=True)
    for host in ("192.0.2.77", "no.such.host.invalid"):
        config = ServerConfig(
            listen=ListenConfig(host, 0, 0),
            access=access,
            store=StoreConfig(url=""),
            telephony=NO_PORT,
        )
        with pytest.raises(OSError, match=f"^got listen.http_port 0 at {host}: .*; expected"):
            async with Server(ENGINE, config):
                pass


async def test_until_the_model_is_there_streams_are_refused(tmp_path: Path):
    server = Server(ENGINE, settings(tmp_path))
    starting = asyncio.ensure_future(server.__aenter__())
    try:
        status = None
        while not starting.done():
            await asyncio.sleep(0)
            try:
                async with connect(server.ingest_url, proxy=None):
                    break
            except Exception as error:
                response = getattr(error, "response", None)
                if response is not None:
                    status, body = response.status_code, json.loads(response.body)
                    break
        assert status == 503
        assert body["code"] == "not_ready"
        assert body["retry_after_s"] == 2.0
    finally:
        await starting
        await server.__aexit__(None, None, None)


async def test_a_task_of_the_server_that_fails_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    async def fail(store: Store, *_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Store, "run", fail)
    with capture_logs() as logs:
        async with serving(tmp_path):
            await asyncio.sleep(0)
    failed = [entry for entry in logs if entry["event"] == "task_failed"]
    assert [entry["task"] for entry in failed] == ["store"]
