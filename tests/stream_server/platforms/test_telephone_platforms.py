"""Calls of telephone platforms through a real gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ser_engine.raw_audio import MULAW
from ser_engine.types import FloatArray
from stream_server.access import AccessConfig
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.platforms import TelephonyConfig
from stream_server.wire.audio_format import Encoding
from stream_server.wire.dialect import MAX_BAD_MESSAGES
from stream_server.wire.results import Gap, Marked, StreamClosed, StreamOpened, Warning
from tests.stream_server.streams.timelines import gaps, points, tiles, timeline
from tests.support.live_lab import Lab, live_lab, stream
from tests.support.platform_calls import PLATFORMS, audio_bytes
from tests.support.telephony_lab import (
    assert_same_timeline,
    load_call,
    native_timeline,
    published_timeline,
    telephony_lab,
)
from tests.support.virtual_time import virtual_time

BOTH = ServerConfig(
    streams=StreamsConfig(analyse_roles=("customer", "agent")),
    access=AccessConfig(refusal_delay_ms=0),
)
NAMES = ("twilio", "telnyx", "plivo")
WITH_TRACKS = pytest.mark.parametrize("name", NAMES)
SECRET = "a secret of the platform"


def mulaw(samples: FloatArray) -> bytes:
    """Return the µ-law codes that come closest to samples at 8 kHz."""
    order = np.argsort(MULAW, kind="stable")
    values = MULAW[order]
    above = np.clip(np.searchsorted(values, samples), 1, len(values) - 1)
    nearest = above - (samples - values[above - 1] < values[above] - samples)
    return order[nearest].astype(np.uint8).tobytes()


def level(seconds: float, amount: float) -> FloatArray:
    return np.full(round(seconds * 8000), amount, np.float32)


CUSTOMER = mulaw(np.concatenate([level(4, 0.1), level(2, 0.2)]))
AGENT = mulaw(np.concatenate([level(3, 0.3), level(3, 0.2)]))


def stereo(left: bytes, right: bytes) -> bytes:
    pairs = np.stack([np.frombuffer(left, np.uint8), np.frombuffer(right, np.uint8)], axis=1)
    return pairs.tobytes()


async def send_all(socket: ClientConnection, messages: Iterable[str | bytes]) -> None:
    for message in messages:
        await socket.send(message)


async def call(lab: Lab, path: str, messages: Iterable[str | bytes], **options: Any) -> list[Any]:
    """Send a whole call and close; return what was published of it."""
    before = len(lab.published)
    async with lab.connect(path, **options) as socket:
        await send_all(socket, messages)
    await until(lambda: is_closed(lab.published[before:]))
    return lab.published[before:]


@virtual_time
async def test_loss_of_a_platforms_packets_is_told_of():
    packets = [
        {"track": track, "chunk": str(number), "timestamp": str(number * 20)}
        for number in range(1, 400)
        for track in ("inbound", "outbound")
        if not (track == "inbound" and number % 20 == 5)
    ]
    payload = audio_bytes(b"\x7f" * 160)
    messages = [
        {"event": "start", "start": {"callSid": "CA1", "tracks": ["inbound", "outbound"]}},
        *({"event": "media", "media": {**packet, "payload": payload}} for packet in packets),
        {"event": "stop"},
    ]
    async with live_lab(config=BOTH) as lab:
        published = await call(lab, "/twilio", map(json.dumps, messages))
        value = lab.metrics.registry.get_sample_value
        assert value("emotion_monitor_packets_total", {"outcome": "lost"}) == 20
    warnings = [each for each in published if isinstance(each, Warning) and "packet" in each.code]
    assert [(each.code, each.channel) for each in warnings] == [("packet_loss", 0)]


@virtual_time
async def test_packets_of_half_the_length_that_their_times_say_are_named_as_such():
    payload = audio_bytes(b"\x7f" * 80)
    messages = [
        {"event": "start", "start": {"callSid": "CA1", "tracks": ["inbound"]}},
        *(
            {"event": "media", "media": {"track": "inbound", "payload": payload, **at}}
            for at in ({"chunk": str(n), "timestamp": str(n * 20)} for n in range(1, 400))
        ),
        {"event": "stop"},
    ]
    async with live_lab(config=BOTH) as lab:
        published = await call(lab, "/twilio", map(json.dumps, messages))
    (warning,) = [
        each for each in published if isinstance(each, Warning) and each.code == "packet_loss"
    ]
    assert "likely each packet holds half of the samples that its time says" in warning.message


def is_closed(published: list[Any]) -> bool:
    return bool(published) and isinstance(published[-1], StreamClosed)


async def until(condition: Callable[[], bool]) -> None:
    """Wait, in virtual time, for what the server does after the client has gone."""
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError("it did not come about within 10 s")


async def natively(lab: Lab, data: bytes, *roles: str) -> list[Any]:
    """Send the same audio in the native protocol; return what was published of it."""
    before = len(lab.published)
    channels = [{"role": role} for role in roles]
    messages = (data[at : at + 320] for at in range(0, len(data), 320))
    await stream(lab, messages, encoding="mulaw", sample_rate=8000, channels=channels)
    return lab.published[before:]


@virtual_time
async def test_a_call_is_published_under_its_own_name():
    platform = PLATFORMS["twilio"]()
    messages = platform.call({"inbound": CUSTOMER}, parameters={"queue": "billing"})
    async with live_lab(config=BOTH) as lab:
        published = await call(lab, "/twilio", messages)
    opened, closed = published[0], published[-1]
    assert isinstance(opened, StreamOpened) and isinstance(closed, StreamClosed)
    assert (opened.name, opened.metadata["queue"]) == (platform.call_id, "billing")
    assert [channel.role for channel in opened.channels] == ["customer"]
    assert closed.reason == "stopped"
    assert [label for _, _, label in tiles(published)] == ["angry", "happy"]


@pytest.mark.parametrize("name", [*NAMES, "signalwire", "bandwidth"])
@virtual_time
async def test_two_tracks_are_the_timeline_of_the_same_stereo_stream(name: str):
    platform = PLATFORMS[name]()
    messages = platform.call({"inbound": CUSTOMER, "outbound": AGENT})
    async with live_lab(config=BOTH) as lab:
        got = await call(lab, f"/{name}", messages)
        expected = await natively(lab, stereo(CUSTOMER, AGENT), "customer", "agent")
    assert points(got) == points(expected) != []
    for channel in (0, 1):
        assert tiles(got, channel) == tiles(expected, channel)


@virtual_time
async def test_exotel_is_the_timeline_of_the_same_stream():
    data = np.concatenate([level(3, 0.1), level(2, 0.2)])
    samples = np.round(data * 32_767).astype("<i2").tobytes()
    messages = PLATFORMS["exotel"]().call({"inbound": samples}, packet_bytes=1600, bytes_per_ms=16)
    async with live_lab(config=BOTH) as lab:
        got = await call(lab, "/exotel", messages)
        before = len(lab.published)
        await stream(lab, [samples], sample_rate=8000, channels=[{"role": "customer"}])
        expected = lab.published[before:]
    assert timeline(got) == timeline(expected) != []


def vonage(samples: bytes, rate_hz: int) -> Iterable[str | bytes]:
    yield json.dumps(
        {"event": "websocket:connected", "content-type": f"audio/l16;rate={rate_hz}", "uuid": "u1"}
    )
    packet = rate_hz // 50 * 2
    yield from (samples[at : at + packet] for at in range(0, len(samples), packet))


@pytest.mark.parametrize("rate_hz", [8000, 16_000, 24_000])
@virtual_time
async def test_vonage_is_the_timeline_of_the_same_stream(rate_hz: int):
    data = np.concatenate([np.full(3 * rate_hz, 0.1), np.full(2 * rate_hz, 0.2)])
    samples = np.round(data * 32_767).astype("<i2").tobytes()
    async with live_lab(config=BOTH) as lab:
        got = await call(lab, "/vonage", vonage(samples, rate_hz))
        before = len(lab.published)
        await stream(lab, [samples], sample_rate=rate_hz, channels=[{"role": "customer"}])
        expected = lab.published[before:]
    assert isinstance(got[0], StreamOpened) and got[0].name == "u1"
    assert timeline(got) == timeline(expected) != []


@WITH_TRACKS
@virtual_time
async def test_a_platform_that_closes_without_a_word_has_stopped(name: str):
    messages = [
        json.dumps(message)
        for message in PLATFORMS[name]().messages({"inbound": CUSTOMER, "outbound": AGENT})
        if message["event"] != "stop"
    ]
    async with live_lab(config=BOTH) as lab:
        published = await call(lab, f"/{name}", messages)
    closed = published[-1]
    assert isinstance(closed, StreamClosed) and closed.reason == "stopped"
    assert tiles(published)[-1][1] == len(CUSTOMER) * 2


@pytest.mark.parametrize("goodbye", [True, False])
@virtual_time
async def test_what_waits_for_the_other_track_is_not_lost_at_the_end(goodbye: bool):
    platform = PLATFORMS["plivo"]()
    messages = list(platform.call({"inbound": CUSTOMER + CUSTOMER[:800], "outbound": CUSTOMER}))
    async with live_lab(config=BOTH) as lab:
        async with lab.connect("/plivo") as socket:
            await send_all(socket, messages)
            await asyncio.sleep(1)  # Virtual time does not pass while there is something to read.
            if not goodbye:
                socket.transport.abort()
        await until(lambda: is_closed(lab.published))
    for channel in (0, 1):
        assert tiles(lab.published, channel)[-1][1] == 2 * len(CUSTOMER + CUSTOMER[:800])
    assert [(g.channel, g.reason) for g in lab.published if isinstance(g, Gap)] == [(1, "lost")]


@virtual_time
async def test_a_platform_that_is_gone_does_not_come_back():
    messages = list(PLATFORMS["twilio"]().call({"inbound": CUSTOMER}))[:-1]
    async with live_lab(config=BOTH) as lab:
        async with lab.connect("/twilio") as socket:
            await send_all(socket, messages)
            await asyncio.sleep(1)
            socket.transport.abort()
        await until(lambda: is_closed(lab.published))
    closed = lab.published[-1]
    assert isinstance(closed, StreamClosed) and closed.reason == "client_lost"


@virtual_time
async def test_the_server_sends_nothing_and_closes_after_stop():
    async with live_lab(config=BOTH) as lab, lab.connect("/twilio") as socket:
        await send_all(socket, PLATFORMS["twilio"]().call({"inbound": CUSTOMER}))
        with pytest.raises(ConnectionClosed):
            raise AssertionError(await socket.recv())
        assert socket.close_code == 1000


@virtual_time
async def test_a_pressed_key_is_a_mark():
    platform = PLATFORMS["twilio"]()
    messages = list(platform.messages({"inbound": CUSTOMER}))
    messages.insert(100, platform.dtmf("4"))
    async with live_lab(config=BOTH) as lab:
        published = await call(lab, "/twilio", map(json.dumps, messages))
    (marked,) = (result for result in published if isinstance(result, Marked))
    assert (marked.name, marked.at_s) == ("dtmf", 98 * 0.02)


@virtual_time
async def test_packets_that_never_come_are_a_gap_of_their_track():
    messages = [
        json.dumps(message)
        for message in PLATFORMS["twilio"]().messages({"inbound": CUSTOMER, "outbound": AGENT})
        if message["event"] != "media"
        or message["media"]["track"] == "outbound"
        or not 100 <= int(message["media"]["chunk"]) < 150
    ]
    async with live_lab(config=BOTH) as lab:
        published = await call(lab, "/twilio", messages)
    of_track = [[each for each in published if getattr(each, "channel", 0) == n] for n in (0, 1)]
    assert gaps(of_track[0])["lost"] == pytest.approx(16_000, abs=400)
    assert "lost" not in gaps(of_track[1])
    lost = next(r for r in of_track[0] if isinstance(r, Gap) and r.final and r.reason == "lost")
    assert lost.start_s == pytest.approx(99 * 0.02, abs=0.02)


@virtual_time
async def test_nonsense_that_does_not_end_closes_the_connection():
    async with live_lab(config=BOTH) as lab, lab.connect("/twilio") as socket:
        await socket.send(json.dumps(PLATFORMS["twilio"]().start(("inbound",), {})))
        for _ in range(MAX_BAD_MESSAGES + 1):
            await socket.send("nonsense")
        await socket.wait_closed()
        assert (socket.close_code, socket.close_reason) == (4400, "too_many_errors")


@virtual_time
async def test_a_start_that_cannot_be_served_is_counted():
    async with live_lab(config=BOTH) as lab, lab.connect("/telnyx") as socket:
        await socket.send(json.dumps(PLATFORMS["telnyx"](encoding="AMR-WB").start((), {})))
        await socket.wait_closed()
        assert (socket.close_code, lab.refused) == (4400, ["bad_format"])


@virtual_time
async def test_twilios_subprotocol():
    async with live_lab(config=BOTH) as lab:
        for offered in ("audio.twilio.com", None):
            subprotocols = None if offered is None else [offered]
            async with lab.connect("/twilio", subprotocols=subprotocols) as socket:
                assert socket.subprotocol == offered


@pytest.mark.needs("twilio")
@virtual_time
async def test_only_what_twilio_has_signed_comes_in():
    from twilio.request_validator import RequestValidator

    config = ServerConfig(
        streams=BOTH.streams,
        access=BOTH.access,
        telephony=TelephonyConfig(public_url="wss://monitor.example.org", twilio_auth_token=SECRET),
    )
    validator = RequestValidator(SECRET)
    async with live_lab(config=config) as lab:
        signature = validator.compute_signature("wss://monitor.example.org/twilio", {})
        messages = PLATFORMS["twilio"]().call({"inbound": CUSTOMER})
        published = await call(
            lab, "/twilio", messages, additional_headers={"X-Twilio-Signature": signature}
        )
        assert timeline(published)
        for headers in ({}, {"X-Twilio-Signature": signature[::-1]}):
            with pytest.raises(InvalidStatus) as caught:
                async with lab.connect("/twilio", additional_headers=headers):
                    pass
            assert caught.value.response.status_code == 403
        assert lab.refused == ["unauthorized", "unauthorized"]
        assert len(lab.published) == len(published)


@pytest.mark.parametrize(
    ("path", "setting", "headers"),
    [
        ("/twilio", "twilio_auth_token", {"X-Twilio-Signature": "RSOYDt4T1cUTdK1PDd93/VVr8B8="}),
        (
            "/plivo",
            "plivo_auth_token",
            {"X-Plivo-Signature-V3": "x", "X-Plivo-Signature-V3-Nonce": "1"},
        ),
        (
            "/vonage",
            "vonage_signature_secret",
            {"Authorization": "Bearer eyJhbGciOiJub25lIn0.e30."},
        ),
    ],
)
@virtual_time
async def test_a_secret_is_asked_for_on_this_machine_too(
    path: str, setting: str, headers: dict[str, str]
):
    secrets: dict[str, Any] = {setting: SECRET}
    config = ServerConfig(access=BOTH.access, telephony=TelephonyConfig(**secrets))
    async with live_lab(config=config) as lab:
        with pytest.raises(InvalidStatus) as caught:
            async with lab.connect(path, additional_headers=headers):
                pass
        assert (caught.value.response.status_code, lab.refused) == (403, ["unauthorized"])


# -- A real call, and the compact model ------------------------------------------------------------


def swapped(samples: bytes) -> bytes:
    return np.frombuffer(samples, "<i2").astype(">i2").tobytes()


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize(
    ("name", "encoding", "said_as", "rate_hz"),
    [
        ("twilio", "mulaw", "audio/x-mulaw", 8000),
        ("telnyx", "alaw", "PCMA", 8000),
        ("telnyx", "pcm_s16le", "L16", 16_000),
        ("plivo", "mulaw", "audio/x-mulaw", 8000),
        ("plivo", "pcm_s16le", "audio/x-l16", 8000),
    ],
)
@virtual_time
async def test_a_real_call_gives_the_timeline_of_the_native_protocol(
    shared_data: Path, name: str, encoding: Encoding, said_as: str, rate_hz: int
):
    spoken = load_call(shared_data, encoding, rate_hz=rate_hz)
    platform = PLATFORMS[name](encoding=said_as, rate_hz=rate_hz)
    customer, agent = spoken.tracks
    if said_as == "L16":
        customer, agent = swapped(customer), swapped(agent)
    packet_bytes = rate_hz // 50 * spoken.sample_bytes
    messages = list(
        platform.call(
            {"inbound": customer, "outbound": agent},
            packet_bytes=packet_bytes,
            bytes_per_ms=packet_bytes // 20,
        )
    )
    if name == "telnyx":
        # Whose order is not promised.
        for at in range(4, len(messages) - 4, 7):
            messages[at], messages[at + 2] = messages[at + 2], messages[at]
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, spoken)
        async with lab.connect(f"/{name}") as socket:
            await send_all(socket, messages)
        assert_same_timeline(reference, await published_timeline(lab, platform.call_id))


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize(("name", "rate_hz"), [("exotel", 8000), ("vonage", 16_000)])
@virtual_time
async def test_the_customer_of_a_real_call_alone(shared_data: Path, name: str, rate_hz: int):
    spoken = load_call(shared_data, "pcm_s16le", rate_hz=rate_hz)
    customer, _ = spoken.tracks
    messages = vonage(customer, rate_hz)
    if name == "exotel":
        # 100 ms a message.
        messages = PLATFORMS["exotel"](rate_hz=rate_hz).call(
            {"inbound": customer}, packet_bytes=rate_hz // 5, bytes_per_ms=rate_hz // 500
        )
    call_id = "u1" if name == "vonage" else PLATFORMS["exotel"].call_id
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, spoken)
        async with lab.connect(f"/{name}") as socket:
            await send_all(socket, messages)
        got = await published_timeline(lab, call_id)
    assert_same_timeline(reference, got, channels=[0])
