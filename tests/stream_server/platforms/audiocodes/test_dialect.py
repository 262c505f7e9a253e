"""AudioCodes' messages, written from its documentation, and a call over a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream_server.config import ServerConfig, StreamsConfig
from stream_server.platforms.audiocodes import FORMATS, AudioCodesDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Mark, Stop
from stream_server.wire.results import StreamClosed
from stream_server.wire.start import StreamSpec
from tests.stream_server.streams.timelines import timeline
from tests.support.live_lab import live_lab, stream
from tests.support.platform_calls import audio_bytes
from tests.support.protocol_lab import ready
from tests.support.virtual_time import virtual_time

CONVERSATION = "4a5b4b9d-dab7-42d0-a977-6740c9349588"


def said(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, "conversationId": CONVERSATION, **fields})


def initiate(*formats: str) -> str:
    return said(
        "session.initiate",
        botName="monitor",
        caller="+1234567890",
        expectAudioMessages=False,
        supportedMediaFormats=formats or ["raw/lpcm16"],
    )


def chunk(data: bytes, participant: str | None = None) -> str:
    named = {} if participant is None else {"participant": participant}
    return said("userStream.chunk", audioChunk=audio_bytes(data), **named)


def dialect_of(**options: Any) -> AudioCodesDialect:
    return AudioCodesDialect(roles=("customer", "agent"), **options)


def answers(inbound: list[Inbound]) -> list[dict[str, Any]]:
    return [json.loads(m) for each in inbound if isinstance(each, Say) for m in each.messages]


def test_a_session_is_answered_and_the_participants_are_channels():
    dialect = dialect_of()
    assert answers(dialect.receive(said("connection.validate"))) == [
        {"type": "connection.validated", "success": True}
    ]
    (spec,) = dialect.receive(initiate("wav/lpcm16", "raw/mulaw", "raw/lpcm16_24", "raw/lpcm16"))
    assert isinstance(spec, StreamSpec)
    assert spec.format == AudioFormat("pcm_s16le", 16_000, 2)
    assert [channel.role for channel in spec.channels] == ["customer", "agent"]
    assert spec.metadata == {
        "platform": "audiocodes",
        "conversationId": CONVERSATION,
        "botName": "monitor",
    }
    assert [json.loads(each) for each in dialect.send(ready())] == [
        {"type": "session.accepted", "mediaFormat": "raw/lpcm16"}
    ]
    for kind in ("start", "stop"):
        told = f"userStream.{kind}"
        done = told + ("ed" if kind == "start" else "ped")
        assert answers(dialect.receive(said(told))) == [{"type": done}]
        assert answers(dialect.receive(said(told, participant="agent"))) == [
            {"type": done, "participant": "agent"}
        ]
    ramp = np.arange(320, dtype="<i2")
    inbound = [*dialect.receive(chunk(ramp.tobytes(), "caller"))]
    inbound += dialect.receive(chunk((ramp + 7).tobytes(), "agent"))
    (audio,) = [each for each in inbound if isinstance(each, AudioData)]
    sides = np.frombuffer(audio.data, "<i2").reshape(-1, 2).T
    assert np.array_equal(sides, [ramp, ramp + 7])
    pressed = {"type": "event", "name": "dtmf", "value": "5"}
    keys = said("activities", activities=[pressed, {"type": "event", "name": "start"}])
    assert dialect.receive(keys) == [Mark(name="dtmf", key="5")]
    assert dialect.receive(said("something.new")) == []
    assert dialect.receive(said("session.end", reasonCode="client-disconnected"))[-1] == Stop()


@pytest.mark.parametrize("named", FORMATS)
def test_each_format_is_accepted_by_its_name(named: str):
    dialect = dialect_of(tracks=("inbound",))
    (spec,) = dialect.receive(initiate(named))
    assert isinstance(spec, StreamSpec)
    assert (spec.format.encoding, spec.format.sample_rate_hz) == FORMATS[named]
    (accepted,) = dialect.send(ready())
    assert json.loads(accepted)["mediaFormat"] == named
    # One participant: the other is not analysed, and whoever has no name is the caller.
    assert dialect.receive(chunk(b"\x01\x00" * 160, "agent")) == []
    (audio,) = dialect.receive(chunk(b"\x01\x00" * 160))
    assert isinstance(audio, AudioData) and len(audio.data) == 320


def test_a_session_that_is_resumed_is_a_new_stream():
    dialect = dialect_of()
    (spec,) = dialect.receive(said("session.resume"))
    assert isinstance(spec, StreamSpec) and spec.name == CONVERSATION
    (accepted,) = dialect.send(ready())
    assert json.loads(accepted)["mediaFormat"] == "raw/lpcm16"


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([initiate("wav/lpcm16")], "bad_format"),
        ([chunk(b"")], "unexpected_message"),
        ([initiate(), initiate()], "unexpected_message"),
        ([initiate(), chunk(b"abc")], "bad_message"),
        ([initiate(), said("userStream.chunk", audioChunk="?")], "bad_message"),
        ([initiate(), said("activities", activities=3)], "bad_message"),
        (["{}"], "bad_message"),
    ],
)
def test_what_cannot_be_understood_is_an_error(messages: list[str], code: str):
    dialect = dialect_of()
    for message in messages[:-1]:
        dialect.receive(message)
    with pytest.raises(ProtocolError) as caught:
        dialect.receive(messages[-1])
    assert caught.value.code is ErrorCode(code)


JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.lists(st.integers())
KINDS = [f"userStream.{each}" for each in ("start", "chunk", "stop")]
FIELDS = st.fixed_dictionaries(
    {"type": st.sampled_from([*KINDS, "activities", "session.initiate", "session.resume"]) | JSON},
    optional={
        "conversationId": JSON,
        "supportedMediaFormats": JSON | st.lists(st.sampled_from([*FORMATS, "wav/mulaw"])),
        "participant": st.sampled_from(["caller", "agent"]) | JSON,
        "audioChunk": st.binary(max_size=64).map(audio_bytes) | JSON,
        "activities": JSON | st.lists(st.dictionaries(st.sampled_from(["name", "value"]), JSON)),
    },
)


@settings(max_examples=60)
@given(st.lists(FIELDS, max_size=16))
def test_whatever_comes_is_understood_or_refused(messages: list[dict[str, Any]]):
    dialect = dialect_of()
    for message in messages:
        was_started = dialect.start is not None
        try:
            inbound = dialect.receive(json.dumps(message))
        except ProtocolError:
            assert (dialect.start is not None) == was_started
            continue
        for each in inbound:
            if isinstance(each, AudioData):
                assert dialect.start is not None
                assert len(each.data) % dialect.start.format.bytes_per_tick == 0


@virtual_time
async def test_a_call_is_the_timeline_of_the_same_stereo_stream():
    sides = [
        np.round(np.repeat(levels, 3 * 16_000) * 32_767).astype("<i2")
        for levels in ((0.1, 0.2), (0.3, 0.1))
    ]
    config = ServerConfig(streams=StreamsConfig(analyse_roles=("customer", "agent")))
    async with live_lab(config=config) as lab:
        async with lab.connect("/audiocodes") as socket:
            await socket.send(initiate())
            accepted = json.loads(await socket.recv())
            assert accepted == {"type": "session.accepted", "mediaFormat": "raw/lpcm16"}
            for who in ("caller", "agent"):
                await socket.send(said("userStream.start", participant=who))
                started = json.loads(await socket.recv())
                assert started == {"type": "userStream.started", "participant": who}
            for number in range(300):
                for who, samples in zip(("caller", "agent"), sides, strict=True):
                    data = samples[number * 320 : (number + 1) * 320].tobytes()
                    await socket.send(chunk(data, who))
            await socket.send(said("session.end"))
            await socket.wait_closed()
            assert socket.close_code == 1000
        while not isinstance(lab.published[-1], StreamClosed):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.01)
        got = list(lab.published)
        both = [{"role": "customer"}, {"role": "agent"}]
        native = np.stack(sides, axis=1).tobytes()
        await stream(lab, [native], sample_rate=16_000, channels=both)
        assert timeline(got) == timeline(lab.published[len(got) :]) != []
