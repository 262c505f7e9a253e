"""What a telephone platform that speaks AudioHook sees of the server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from ser_engine.raw_audio import MULAW_PCM16
from ser_engine.types import FloatArray
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.wire.audio_format import Encoding
from stream_server.wire.results import Point, StreamOpened, Summary
from tests.stream_server.streams.timelines import gaps, points, tiles
from tests.support.audiohook_client import Genesys, media
from tests.support.live_lab import Lab, live_lab, receive_all, send, start
from tests.support.telephony_lab import (
    Timeline,
    assert_same_timeline,
    load_call,
    native_timeline,
    published_timeline,
    telephony_lab,
)
from tests.support.virtual_time import virtual_time

BOTH_ROLES = StreamsConfig(analyse_roles=("customer", "agent"))
OPEN_TO_ALL = ServerConfig(streams=BOTH_ROLES)


def mulaw(samples: FloatArray) -> bytes:
    """Return the nearest codes."""
    order = np.argsort(MULAW_PCM16, kind="stable")
    values = MULAW_PCM16[order].astype(np.float32) / 32_768
    index = np.searchsorted((values[1:] + values[:-1]) / 2, samples)
    return order[index].astype(np.uint8).tobytes()


def level(seconds: float, amount: float) -> bytes:
    """Return one channel at 8 kHz that the fake engine takes for one emotion."""
    return mulaw(np.full(round(seconds * 8000), amount, dtype=np.float32))


def stereo(external: bytes, internal: bytes) -> bytes:
    return np.stack([np.frombuffer(each, np.uint8) for each in (external, internal)], 1).tobytes()


def genesys(lab: Lab, number: int = 1) -> Genesys:
    return Genesys(lab.url + "/audiohook", number)


def published(lab: Lab, kind: type) -> list[Any]:
    return [result for result in lab.published if isinstance(result, kind)]


def kinds(events: Iterable[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(event["type"], event["data"]["channel"]) for event in events}


@virtual_time
async def test_a_call_of_two_channels():
    call = stereo(level(12, 0.1), level(12, 0.2))
    async with live_lab(config=OPEN_TO_ALL) as lab, genesys(lab).connected() as platform:
        await platform.open(language="en-US", customConfig={"queue": "sales"})
        assert platform.opened["media"] == media(["external", "internal"])
        await platform.send_audio(call)
        await platform.close()
    (opened,) = published(lab, StreamOpened)
    assert opened.name == platform.conversation_id
    assert [channel.role for channel in opened.channels] == ["customer", "agent"]
    assert (opened.encoding, opened.sample_rate) == ("mulaw", 8000)
    assert opened.metadata["session_id"] == platform.session_id
    assert opened.metadata["custom.queue"] == "sales"
    assert "5555551234" not in str(opened)
    assert [label for _, _, label in tiles(lab.published, 0)] == ["angry"]
    assert [label for _, _, label in tiles(lab.published, 1)] == ["happy"]
    (summary,) = published(lab, Summary)
    assert (summary.reason, summary.duration_s) == ("stopped", 12.0)
    assert len(lab.registry) == 0
    # Results came back, at most once a second, and the last of them before ``closed``.
    assert kinds(platform.events) == {
        ("emotion.point", "external"),
        ("emotion.point", "internal"),
        ("emotion.segment", "external"),
        ("emotion.segment", "internal"),
        ("emotion.alert", "external"),
    }
    told = [e["data"] for e in platform.events if e["type"] == "emotion.point"]
    customer = [data for data in told if data["channel"] == "external"]
    assert 10 <= len(customer) <= 13
    assert {data["label"] for data in customer} == {"angry"}
    assert list(customer[0]["posteriors"]) == ["angry", "happy", "neutral", "unknown"]
    assert platform.events[-1]["data"]["end"] > "PT11.9"


@virtual_time
async def test_the_same_results_as_over_the_native_protocol():
    rng = np.random.default_rng(7)
    sides = [
        mulaw(np.repeat(rng.choice([0.0, 0.1, 0.2, 0.3], 30), 2400).astype(np.float32))
        for _ in range(2)
    ]
    call = stereo(*sides)
    async with live_lab(config=OPEN_TO_ALL) as native, native.connect() as socket:
        roles = [{"role": "customer"}, {"role": "agent"}]
        await socket.send(start(encoding="mulaw", sample_rate=8000, channels=roles))
        reader = asyncio.create_task(receive_all(socket))
        for at in range(0, len(call), 320):
            await asyncio.sleep(0.02)
            await socket.send(call[at : at + 320])
        await send(socket, type="stop")
        await reader
    async with live_lab(config=OPEN_TO_ALL) as lab, genesys(lab).connected() as platform:
        await platform.open()
        await platform.send_audio(call)
        await platform.close()
    assert len(points(lab.published)) > 20
    assert timeline_of_both(lab) == timeline_of_both(native)


def timeline_of_both(lab: Lab) -> list[Any]:
    return [points(lab.published), tiles(lab.published, 0), tiles(lab.published, 1)]


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize(("form", "encoding"), [("PCMU", "mulaw"), ("L16", "pcm_s16le")])
@virtual_time
async def test_a_real_call_gives_the_timeline_of_the_native_protocol(
    shared_data: Path, form: str, encoding: Encoding
):
    call = load_call(shared_data, encoding)
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        async with genesys(lab).connected() as platform:
            await platform.open(media(["external", "internal"], form=form))
            await platform.send_audio(call.interleaved)
            await platform.close()
        got = await published_timeline(lab, platform.conversation_id)
    assert_same_timeline(reference, got)
    assert {("emotion.point", "external"), ("emotion.point", "internal")} <= kinds(platform.events)


@pytest.mark.needs("shared-data")
@virtual_time
async def test_the_sides_of_a_real_call_are_not_confused(shared_data: Path):
    """Offered the other way round, the agent's side comes first."""
    call = load_call(shared_data)
    turned = replace(call, tracks=call.tracks[::-1])
    async with telephony_lab() as lab, genesys(lab).connected() as platform:
        reference = await native_timeline(lab, call)
        await platform.open(media(["internal", "external"]))
        await platform.send_audio(turned.interleaved)
        await platform.close()
        got = await published_timeline(lab, platform.conversation_id)
    assert {p.channel: p.role for p in got.points} == {0: "agent", 1: "customer"}
    for role in ("customer", "agent"):
        assert of_role(got, role) == of_role(reference, role)


def of_role(timeline: Timeline, role: str) -> list[Any]:
    return [(p.start_sample, p.label, p.posteriors) for p in timeline.points if p.role == role]


@virtual_time
async def test_by_default_the_agent_is_not_analysed():
    call = stereo(level(3, 0.1), level(3, 0.2))
    async with live_lab() as lab, genesys(lab).connected() as platform:
        await platform.open()
        await platform.send_audio(call)
        await platform.close()
    assert {point.channel for point in published(lab, Point)} == {0}
    assert {channel for _, channel in kinds(platform.events)} == {"external"}


@virtual_time
async def test_the_agent_alone_is_refused():
    async with live_lab() as lab, genesys(lab).connected() as platform:
        await platform.open(media(["internal"]))
        assert platform.disconnected is not None
        assert platform.disconnected["reason"] == "error"
        assert "got channels with the roles agent" in platform.disconnected["info"]
        await platform.close("disconnect")
    assert (lab.refused, lab.published) == (["nothing_to_analyse"], [])


@virtual_time
async def test_linear_audio_is_little_endian():
    samples = np.full(8000 * 4, 0.3 * 32_768, dtype="<i2")
    async with live_lab() as lab, genesys(lab).connected() as platform:
        await platform.open(media(["external"], form="L16"))
        await platform.send_audio(samples.tobytes())
        await platform.close()
    assert [label for _, _, label in tiles(lab.published)] == ["neutral"]


@virtual_time
async def test_gaps_are_those_of_the_call():
    async with live_lab() as lab, genesys(lab).connected() as platform:
        await platform.open(media(["external"]))
        await platform.send_audio(level(4, 0.1))
        await platform.pause()
        await asyncio.sleep(7)
        await platform.ping()
        await platform.resume(7.25)
        await platform.send_audio(level(4, 0.2))
        await platform.discard(1.5)
        await platform.send_audio(level(4, 0.1))
        await platform.close()
    assert gaps(lab.published) == {"paused": 116_000, "discarded": 24_000}
    (summary,) = published(lab, Summary)
    assert summary.duration_s == platform.sent_s == 20.75


@virtual_time
async def test_a_call_on_hold_longer_than_the_idle_timeout():
    """Pings are all that comes then."""
    async with live_lab(idle_timeout_s=8.0) as lab, genesys(lab).connected() as platform:
        await platform.open(media(["external"]))
        await platform.send_audio(level(1, 0.1))
        await platform.pause()
        for _ in range(20):
            await asyncio.sleep(5)
            await platform.ping()
        await platform.resume(100)
        await platform.close()
    assert gaps(lab.published)["paused"] == 1_600_000


@virtual_time
async def test_a_probe_leaves_no_trace():
    async with live_lab() as lab, genesys(lab).connected() as platform:
        await platform.probe()
        await asyncio.sleep(1)
        await platform.ping()
        await platform.close()
    assert (lab.published, lab.refused, lab.engine.released) == ([], [], 0)


@virtual_time
async def test_the_client_closes_the_websocket():
    async with live_lab() as lab, genesys(lab).connected() as platform:
        await platform.open()
        await platform.say("close", reason="end")
        await platform.hear_until("closed")
        loop = asyncio.get_running_loop()
        told_s = loop.time()
        with pytest.raises(ConnectionClosed):
            await platform.hear()
        # Only one that does not is closed by the server.
        assert loop.time() - told_s == pytest.approx(5, abs=0.1)
    assert len(lab.registry) == 0


@virtual_time
async def test_a_client_that_is_lost_ends_its_stream():
    async with live_lab() as lab:
        async with genesys(lab).connected() as platform:
            await platform.open()
            platform.hang_up()
        await asyncio.sleep(1)
        assert len(lab.registry) == 0
    (summary,) = published(lab, Summary)
    assert summary.reason == "client_lost"


@virtual_time
async def test_a_server_that_is_full_says_so_in_the_session():
    async with live_lab(max_streams=1) as lab, genesys(lab).connected() as first:
        await first.open()
        async with genesys(lab, 2).connected() as second:
            await second.open()
            assert second.disconnected is not None
            assert second.disconnected["reason"] == "error"
            await second.close("disconnect")
        await first.close()
    assert lab.refused == ["server_full"]


@virtual_time
async def test_a_server_that_stops_sends_what_is_left():
    async with live_lab() as lab:
        async with genesys(lab).connected() as platform:
            await platform.open()
            await platform.send_audio(stereo(level(3, 0.1), level(3, 0.1)))
            stopping = asyncio.create_task(lab.gateway.aclose())
            await platform.hear_until("disconnect")
            assert platform.disconnected == {
                "reason": "completed",
                "info": "the server is being stopped",
            }
            await platform.close("disconnect")
            await stopping
    assert platform.events
    (summary,) = published(lab, Summary)
    assert summary.reason == "server_stopped"


@virtual_time
async def test_a_call_that_goes_on_in_another_session():
    async with live_lab() as lab:
        async with genesys(lab).connected() as first:
            await first.open()
            await first.close("reconnect")
        async with genesys(lab, 2).connected() as second:
            second.conversation_id = first.conversation_id
            former = {"id": first.session_id, "serverseq": 2, "clientseq": 2}
            await second.open(continuedSessions=[former])
            await second.close()
    one, other = published(lab, StreamOpened)
    assert one.name == other.name
    assert other.metadata["continues"] == first.session_id
    assert "continues" not in one.metadata


@virtual_time
async def test_a_mistake_ends_the_session_and_nothing_else():
    async with live_lab() as lab, genesys(lab, 2).connected() as other:
        await other.open()
        async with genesys(lab).connected() as platform:
            await platform.open()
            await platform.say("discarded", start="soon", discarded="PT1S")
            await platform.hear_until("disconnect")
            assert platform.disconnected is not None
            assert "for start" in platform.disconnected["info"]
            await platform.close("disconnect")
        await other.ping()
        await other.close()
    assert [s.reason for s in published(lab, Summary)] == ["protocol_error", "stopped"]
