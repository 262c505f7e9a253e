"""``/v1/listen`` as any WebSocket client sees it."""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Subprotocol

from ser_engine.config import EngineConfig
from stream_server.config import ServerConfig
from stream_server.platforms import TelephonyConfig
from stream_server.wire.results import StreamOpened, Summary
from tests.stream_server.streams.timelines import tiles
from tests.support.live_lab import Lab, LabEngine, access, chunks, level, live_lab, pace, pcm
from tests.support.telephony_lab import load_call, published_timeline, telephony_lab
from tests.support.virtual_time import virtual_time

KEY = "0123456789abcdef"
LISTEN = "/v1/listen?encoding=linear16&sample_rate=16000"
ANGRY_THEN_HAPPY = np.concatenate([level(5, 0.1), level(5, 0.2)])


def guarded() -> ServerConfig:
    """Return settings by which even clients on this machine need a token."""
    return replace(access(call_centre=KEY), telephony=TelephonyConfig(public_url="ws://127.0.0.1"))


async def read_all(socket: ClientConnection) -> tuple[list[Any], int | None, str]:
    seen = []
    try:
        while True:
            seen.append(json.loads(await socket.recv()))
    except ConnectionClosed:
        return seen, socket.close_code, socket.close_reason or ""


async def listen(lab: Lab, messages: list[Any], query: str = LISTEN) -> list[Any]:
    """Send messages and the end; return what was said before a normal close."""
    async with lab.connect(query) as socket:
        reader = asyncio.create_task(read_all(socket))
        for message in messages:
            await socket.send(message)
        await socket.send('{"type": "CloseStream"}')
        seen, code, _ = await reader
        assert code == 1000
        return seen


async def refusal(lab: Lab, target: str, **options: Any) -> tuple[int, Any, Any]:
    """Return status, body and headers."""
    with pytest.raises(InvalidStatus) as caught:
        async with lab.connect(target, **options):
            pass
    response = caught.value.response
    return response.status_code, json.loads(response.body or b""), response.headers


def spans(messages: list[Any]) -> list[tuple[float, float, str]]:
    return [
        (m["start"], m["start"] + m["duration"], m["emotion"]["label"])
        for m in messages
        if m["type"] == "Results" and m["is_final"]
    ]


@virtual_time
async def test_a_stream_from_audio_to_metadata():
    async with live_lab() as lab:
        seen = await listen(lab, [*chunks(pcm(ANGRY_THEN_HAPPY), 6400)])
    expected = [(start / 16_000, end / 16_000, label) for start, end, label in tiles(lab.published)]
    assert spans(seen) == expected
    assert [label for *_, label in expected] == ["angry", "happy"]
    assert [m["speech_final"] for m in seen[:-1]] == [False, True]
    assert seen[-1]["type"] == "Metadata"
    assert (seen[-1]["duration"], seen[-1]["channels"]) == (10.0, 1)
    opened = lab.published[0]
    assert isinstance(opened, StreamOpened)
    assert opened.metadata == {"request_id": seen[-1]["request_id"]}
    assert seen[-1]["stream_id"] == opened.stream_id


@virtual_time
async def test_the_answer_to_the_handshake_names_the_request():
    async with live_lab() as lab, lab.connect(LISTEN) as socket:
        assert socket.response is not None
        request_id = socket.response.headers["dg-request-id"]
        assert uuid.UUID(request_id).version == 4
        await socket.send(b"")
        ((metadata,), *_) = await read_all(socket)
        assert metadata["request_id"] == request_id


@virtual_time
async def test_results_come_while_people_speak():
    config = EngineConfig()
    audio = np.concatenate([level(3, 0.1), level(3, 0.0), level(3, 0.2)])
    async with live_lab() as lab, lab.connect(LISTEN + "&interim_results=true") as socket:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        sender = asyncio.create_task(pace(socket, pcm(audio)))
        for _ in range(8):
            interim = json.loads(await socket.recv())
            assert not interim["is_final"]
            late_s = loop.time() - began_s - interim["start"] - interim["duration"]
            assert late_s <= config.timeline.look_ahead_ms / 1000 + 0.021
        await sender


@virtual_time
async def test_finalize_and_keep_alive():
    async with live_lab(idle_timeout_s=5.0) as lab, lab.connect(LISTEN) as socket:
        await socket.send(pcm(level(0.7, 0.1)))
        await socket.send('{"type": "Finalize"}')
        told = json.loads(await socket.recv())
        assert (told["from_finalize"], told["is_final"], told["start"]) == (True, True, 0.0)
        assert told["duration"] == pytest.approx(0.7, abs=0.021)
        assert told["emotion"]["label"] == "angry"
        for _ in range(4):
            await asyncio.sleep(4)
            await socket.send('{"type": "KeepAlive"}')
        await socket.send('{"type": "CloseStream"}')
        seen, code, _ = await read_all(socket)
        assert ([m["type"] for m in seen], code) == (["Metadata"], 1000)


@virtual_time
async def test_silence_on_the_line_ends_in_deepgrams_words():
    async with live_lab(idle_timeout_s=3.0) as lab, lab.connect(LISTEN) as socket:
        seen, code, reason = await read_all(socket)
    assert (code, reason[:9]) == (1011, "NET-0001:")
    assert [m["type"] for m in seen] == ["Metadata", "Error"]
    assert seen[-1]["variant"] == "NET-0001"
    (summary,) = [m for m in lab.published if isinstance(m, Summary)]
    assert summary.reason == "idle"


@virtual_time
async def test_audio_that_is_none():
    async with live_lab() as lab, lab.connect("/v1/listen?model=nova-3") as socket:
        await socket.send(b"words")
        seen, code, reason = await read_all(socket)
    assert (code, reason[:10]) == (1008, "DATA-0000:")
    assert seen[0]["variant"] == "DATA-0000"
    assert "encoding and sample_rate in the query" in seen[0]["description"]
    assert len(reason.encode()) <= 123
    assert lab.published == []


@virtual_time
async def test_a_recording_of_a_browser_is_not_scored_as_samples():
    async with live_lab() as lab, lab.connect(LISTEN) as socket:
        await socket.send(b"\x1aE\xdf\xa3 what a browser records")
        seen, code, reason = await read_all(socket)
    assert (code, reason[:10]) == (1008, "DATA-0000:")
    told = next(m for m in seen if m["type"] == "Error")["description"]
    assert "got WebM or Matroska, expected raw pcm_s16le samples; tell encoding 'webm'" in told


@virtual_time
async def test_a_wav_file_needs_no_format():
    file = io.BytesIO()
    both = np.stack([level(3, 0.1), level(3, 0.2)], axis=1)
    soundfile.write(file, both, 16_000, subtype="PCM_16", format="WAV")
    async with live_lab() as lab:
        seen = await listen(
            lab, [*chunks(file.getvalue(), 5000)], "/v1/listen?roles=driver,passenger"
        )
    assert {tuple(m["channel_index"]) for m in seen[:-1]} == {(0, 2), (1, 2)}
    assert {m["channel"]["role"]: m["emotion"]["label"] for m in seen[:-1]} == {
        "driver": "angry",
        "passenger": "happy",
    }


@pytest.mark.needs("av")
@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610", "PCM_24", "PCM_U8"])
async def test_wav_of_any_kind(subtype: str):
    file = io.BytesIO()
    rate_hz = 8000 if subtype == "GSM610" else 16_000
    soundfile.write(file, level(3, 0.1), rate_hz, subtype=subtype, format="WAV")
    async with live_lab() as lab:
        seen = await listen(lab, [*chunks(file.getvalue(), 5000)], "/v1/listen")
    labels = [m["emotion"]["label"] for m in seen[:-1]]
    assert labels and set(labels) == {"angry"}
    assert seen[-1]["duration"] == pytest.approx(3 * 16_000 / rate_hz, abs=0.1)


@pytest.mark.needs("av")
async def test_the_log_says_whose_audio_ffmpeg_cannot_read():
    noise = b"\x1aE\xdf\xa3" + np.random.default_rng(0).bytes(100_000)
    async with live_lab() as lab:
        with capture_logs() as logs:
            async with lab.connect("/v1/listen?channels=1") as socket:
                await socket.send(noise)
                _, code, _ = await read_all(socket)
    assert code == 1008
    (opened,) = [each for each in logs if each["event"] == "stream_opened"]
    (failed,) = [each for each in logs if each["event"] == "decoder_failed"]
    assert failed["stream_id"] == opened["stream_id"]


@virtual_time
async def test_by_default_the_second_channel_is_an_agent_and_not_analysed():
    both = np.stack([level(3, 0.1), level(3, 0.2)], axis=1).reshape(-1)
    async with live_lab() as lab:
        seen = await listen(
            lab, [pcm(both)], LISTEN + "&channels=2&multichannel=true&name=call-7&tag=a"
        )
    assert {tuple(m["channel_index"]) for m in seen[:-1]} == {(0, 2)}
    opened = lab.published[0]
    assert isinstance(opened, StreamOpened)
    assert [channel.role for channel in opened.channels] == ["customer", "agent"]
    assert (opened.name, opened.metadata["tag"]) == ("call-7", "a")


@virtual_time
async def test_a_text_that_is_not_understood():
    async with live_lab() as lab, lab.connect(LISTEN) as socket:
        await socket.send("hello")
        told = json.loads(await socket.recv())
        assert (told["type"], told["variant"]) == ("Error", "SchemaError")
        await socket.send('{"type": "CloseStream"}')
        seen, code, _ = await read_all(socket)
        assert ([m["type"] for m in seen], code) == (["Metadata"], 1000)


def speech_of(spans_s: list[tuple[float, float]]) -> set[int]:
    """Return the 10 ms that spans cover."""
    return {cell for start, end in spans_s for cell in range(round(start * 100), round(end * 100))}


@pytest.mark.parametrize("every_ms", [100, 700, 2000])
@pytest.mark.needs("shared-data")
async def test_cuts_neither_leave_speech_out_nor_tell_it_twice(shared_data: Path, every_ms: int):
    call = load_call(shared_data)
    query = "/v1/listen?encoding=mulaw&sample_rate=8000&channels=2&live=false&name=cut"
    packets = chunks(call.interleaved, 2 * 8 * every_ms)
    messages = [each for packet in packets for each in (packet, '{"type": "Finalize"}')]
    async with telephony_lab() as lab:
        seen = await listen(lab, messages, query)
        timeline = await published_timeline(lab, "cut")
    final = [m for m in seen if m["type"] == "Results"]
    assert len([m for m in final if m["from_finalize"]]) == len(messages)
    for channel in (0, 1):
        told = [
            (m["start"], m["start"] + m["duration"])
            for m in final
            if m["channel_index"] == [channel, 2] and m["emotion"]
        ]
        assert all(end <= start + 1e-6 for (_, end), (start, _) in pairwise(told))
        segments = [(s.start_s, s.end_s) for s in timeline.segments if s.channel == channel]
        missing = speech_of(segments) - speech_of(told)
        # The rest of a span after a cut is not reported if it is shorter than 45 ms.
        assert len(missing) <= 4 * len(segments)
        assert speech_of(told) <= speech_of(segments)


@pytest.mark.parametrize(
    "extra",
    [
        b'{"type":"KeepAlive"}',
        b'\xef\xbb\xbf\n{"type": "KeepAlive"}\n',
        b'{"type": "Finalise"}',
        b"KeepAlive",
        b"x",
    ],
)
@virtual_time
async def test_what_is_no_audio_does_not_shift_the_samples_after_it(extra: bytes):
    before, after = chunks(pcm(ANGRY_THEN_HAPPY), 160_000)
    async with live_lab() as lab:
        seen = await listen(lab, [before, extra, after])
    assert [label for *_, label in spans([m for m in seen if m["type"] != "Error"])] == [
        "angry",
        "happy",
    ]


@virtual_time
async def test_a_path_may_end_with_a_slash_and_the_setting_fills_the_transcript():
    config = ServerConfig(telephony=TelephonyConfig(deepgram_transcript="label"))
    async with live_lab(config=config) as lab:
        seen = await listen(lab, [pcm(ANGRY_THEN_HAPPY)], LISTEN.replace("?", "/?"))
    finals = [m["channel"]["alternatives"][0]["transcript"] for m in seen[:-1]]
    assert finals == ["angry", "happy"]


# -- Who may connect -------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Token", "token", "Bearer", "bearer"])
@virtual_time
async def test_a_key_in_the_header(scheme: str):
    async with live_lab(config=guarded()) as lab:
        headers = {"Authorization": f"{scheme} {KEY}"}
        async with lab.connect(LISTEN, additional_headers=headers) as socket:
            await socket.send(b"")
            assert (await read_all(socket))[1] == 1000


@pytest.mark.parametrize("name", ["token", "bearer"])
@virtual_time
async def test_a_browser_has_its_key_in_a_subprotocol(name: str):
    offered = [Subprotocol(name), Subprotocol(KEY)]
    async with (
        live_lab(config=guarded()) as lab,
        lab.connect(LISTEN, subprotocols=offered) as socket,
    ):
        assert socket.subprotocol == name
        await socket.send(b"")
        assert (await read_all(socket))[1] == 1000


@virtual_time
async def test_a_key_in_the_query_is_in_no_log():
    with capture_logs() as logs:
        async with (
            live_lab(config=guarded()) as lab,
            lab.connect(f"{LISTEN}&token={KEY}") as socket,
        ):
            await socket.send(pcm(level(1, 0.1)))
            await socket.send(b"")
            assert (await read_all(socket))[1] == 1000
    assert KEY not in repr(logs)
    assert KEY not in repr(lab.published)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"additional_headers": {"Authorization": "Token wrong-key-of-mine"}},
        {"subprotocols": [Subprotocol("token"), Subprotocol("wrong-key-of-mine")]},
        {"subprotocols": [Subprotocol(KEY), Subprotocol("token")]},
    ],
)
@virtual_time
async def test_no_key_or_a_wrong_one(options: dict[str, Any]):
    async with live_lab(config=guarded()) as lab:
        status, body, headers = await refusal(lab, LISTEN + "&sample_rate=no", **options)
    assert status == 401
    assert body["err_code"] == "INVALID_AUTH"
    assert "access token" in body["err_msg"]
    assert headers["dg-error"] == body["err_msg"]
    assert headers["dg-request-id"] == body["request_id"]
    assert uuid.UUID(body["request_id"])
    assert "wrong-key-of-mine" not in repr(body)
    assert lab.refused == ["unauthorized"]


@pytest.mark.parametrize(
    ("target", "status", "code", "told"),
    [
        (LISTEN + "&encoding=alaw", 400, "Bad Request", "more than once"),
        ("/v1/listen?encoding=silk&sample_rate=48000", 400, "Bad Request", "got encoding 'silk'"),
        ("/v1/listen?encoding=%F0%9F%8E%A4&sample_rate=1", 400, "Bad Request", "got encoding"),
        ("/v1/speak", 404, "NOT_FOUND", "expected '/v1/listen'"),
        ("/v1", 404, "NOT_FOUND", "expected '/v1/listen'"),
    ],
)
@virtual_time
async def test_what_is_refused(target: str, status: int, code: str, told: str):
    async with live_lab() as lab:
        got, body, headers = await refusal(lab, target)
    assert (got, body["err_code"]) == (status, code)
    assert told in body["err_msg"]
    assert told in headers["dg-error"]


@virtual_time
async def test_a_full_server():
    async with live_lab(max_streams=1) as lab, lab.connect(LISTEN) as socket:
        await socket.send(pcm(level(1, 0.1)))
        await socket.send('{"type": "Finalize"}')
        await socket.recv()
        status, body, headers = await refusal(lab, LISTEN)
    assert (status, body["err_code"]) == (503, "SERVICE_UNAVAILABLE")
    assert int(headers["Retry-After"]) > 0


# -- Anything --------------------------------------------------------------------------------------

_messages = st.one_of(
    st.sampled_from(
        [
            '{"type": "KeepAlive"}',
            '{"type": "Finalize"}',
            '{"type": "Finalize", "channel": 7}',
            '{"type": "Configure"}',
            '{"type": "CloseStream"}',
            b"",
            pcm(level(0.6, 0.1)),
            pcm(level(0.6, 0.0)),
            pcm(level(0.3, 0.2))[:-1],
        ]
    ),
    st.binary(max_size=40),
    st.text(max_size=20),
)


@settings(max_examples=40)
@given(st.lists(_messages, max_size=12), st.sampled_from([LISTEN, "/v1/listen?gaps=true"]))
def test_no_sequence_of_messages_hangs(messages: list[str | bytes], query: str):
    virtual_time(end_of_anything)(messages, query)


async def end_of_anything(messages: list[str | bytes], query: str) -> None:
    lab_engine = LabEngine(config=EngineConfig())
    async with live_lab(lab_engine) as lab:
        async with asyncio.timeout(300), lab.connect(query) as socket:
            reader = asyncio.create_task(read_all(socket))
            try:
                for message in [*messages, b""]:
                    await socket.send(message)
            except ConnectionClosed:
                pass
            seen, code, _ = await reader
        assert code in (1000, 1008)
        assert seen[-1]["type"] == ("Metadata" if code == 1000 else "Error")
        assert len(lab.registry) == 0
    assert lab_engine.released == len([m for m in lab.published if isinstance(m, StreamOpened)])
