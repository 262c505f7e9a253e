"""Azure's messages, written from its documentation, and calls of it over a real socket."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus

from stream_server.access import AccessConfig
from stream_server.config import ServerConfig, StreamsConfig
from stream_server.platforms.azure import AzureDialect
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, Dialect, HoldsAudio, Inbound
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Mark
from stream_server.wire.start import StreamSpec
from tests.stream_server.streams.timelines import timeline
from tests.support.live_lab import Lab, live_lab, stream
from tests.support.protocol_lab import ready
from tests.support.virtual_time import virtual_time

CUSTOMER, AGENT, OTHER = "4:+15550100", "8:orgid:3d20e1de", "8:acs:41c5"
PACKET = 640
BEGAN = datetime(2024, 11, 15, 19, 16, 12, 925_000, tzinfo=UTC)


def metadata(**changes: Any) -> str:
    told = {"encoding": "PCM", "sampleRate": 16000, "channels": 1, "length": PACKET}
    told = {"subscriptionId": "89e8cb59", **told, **changes}
    return json.dumps({"kind": "AudioMetadata", "audioMetadata": told})


def audio(number: int, data: bytes, who: str | None = None, /, **changes: Any) -> str:
    """Return the message of a packet that began ``number`` packets after the first."""
    at = BEGAN + timedelta(milliseconds=20 * number)
    told = {"timestamp": at.isoformat().replace("+00:00", "Z"), "silent": False}
    told |= {"data": base64.b64encode(data).decode()}
    told |= {} if who is None else {"participantRawID": who}
    told = {name: value for name, value in {**told, **changes}.items() if value is not None}
    return json.dumps({"kind": "AudioData", "audioData": told})


def dialect_of(**options: Any) -> AzureDialect:
    return AzureDialect(roles=("customer", "agent"), **options)


def started(**options: Any) -> AzureDialect:
    dialect = dialect_of(**options)
    dialect.receive(metadata())
    return dialect


def heard(inbound: list[Inbound]) -> bytes:
    return b"".join(each.data for each in inbound if isinstance(each, AudioData))


def refused(dialect: AzureDialect, message: str | bytes) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        dialect.receive(message)
    return caught.value.code


def ramp(seed: int) -> bytes:
    return (np.arange(PACKET // 2, dtype="<i2") + seed).tobytes()


def channels(data: bytes) -> list[bytes]:
    return [each.tobytes() for each in np.frombuffer(data, "<i2").reshape(-1, 2).T]


def test_a_mixed_call_is_one_channel_that_nobody_is_said_to_be():
    dialect = dialect_of()
    as_dialect: Dialect = dialect
    (spec,) = as_dialect.receive(metadata(sampleRate=24000))
    assert isinstance(spec, StreamSpec) and spec is dialect.start
    assert spec.format == AudioFormat("pcm_s16le", 24000)
    assert [channel.role for channel in spec.channels] == ["mixed"]
    assert spec.metadata == {"platform": "azure", "subscriptionId": "89e8cb59"}
    assert (spec.name, spec.wants) == ("89e8cb59", frozenset())
    assert heard(dialect.receive(audio(0, ramp(0)))) == ramp(0)
    assert dialect.receive('{"kind": "DtmfData", "dtmfData": {"data": "5"}}') == [
        Mark(name="dtmf", key="5")
    ]
    assert dialect.receive('{"kind": "TranscriptionData", "transcriptionData": {}}') == []
    assert dialect.send(ready()) == [] and not dialect.client_closes and not dialect.can_resume


@pytest.mark.parametrize(
    ("customer", "who"), [("", (CUSTOMER, AGENT)), (OTHER, (OTHER, AGENT)), (AGENT, (AGENT, OTHER))]
)
def test_unmixed_audio_has_the_customer_in_the_first_channel(customer: str, who: tuple[str, str]):
    dialect = started(audio="unmixed", customer=customer)
    assert dialect.start is not None and isinstance(dialect, HoldsAudio)
    assert [channel.role for channel in dialect.start.channels] == ["customer", "agent"]
    inbound: list[Inbound] = []
    for number in range(3):
        # In any order.
        for side in (1, 0) if number % 2 else (0, 1):
            inbound += dialect.receive(audio(number, ramp(1000 * side + number), who[side]))
    inbound += dialect.release()
    for side, data in enumerate(channels(heard(inbound))):
        assert data == b"".join(ramp(1000 * side + number) for number in range(3))


def test_another_participant_takes_the_place_of_one_who_is_gone():
    dialect = started(audio="unmixed")
    inbound: list[Inbound] = []
    for number in range(100):
        inbound += dialect.receive(audio(number, ramp(0), CUSTOMER))
        for who, began, ended in ((AGENT, 0, 20), (OTHER, 10, 100)):
            if began <= number < ended:
                inbound += dialect.receive(audio(number, ramp(1 + (who == OTHER)), who))
    _, agents = channels(heard(inbound + dialect.release()))
    sides = [agents[at * PACKET : (at + 1) * PACKET] for at in range(100)]
    assert sides[:20] == [ramp(1)] * 20
    # 20 ms after the last packet of the first one, and a second later: 19 + 50.
    assert ramp(2) not in sides[:68] and sides[70:] == [ramp(2)] * 30


def test_silence_without_data_is_as_long_as_a_packet():
    dialect = started()
    silent = audio(0, b"", data=None, silent=True)
    assert heard(dialect.receive(silent)) == bytes(PACKET)
    assert dialect.receive(audio(1, b"", data=None)) == []


@pytest.mark.parametrize(
    ("message", "code"),
    [
        ("x", ErrorCode.BAD_MESSAGE),
        ("{}", ErrorCode.BAD_MESSAGE),
        ('{"kind": "AudioData"}', ErrorCode.BAD_MESSAGE),
        (audio(0, b"abc"), ErrorCode.BAD_MESSAGE),
        (audio(0, b"", data="?"), ErrorCode.BAD_MESSAGE),
        (audio(0, ramp(0)), ErrorCode.BAD_MESSAGE),  # Unmixed, and nobody's.
        (metadata(), ErrorCode.UNEXPECTED_MESSAGE),
    ],
)
def test_a_wrong_message_leaves_the_stream_as_it_was(message: str, code: ErrorCode):
    dialect = started(audio="unmixed")
    assert refused(dialect, message) is code
    dialect.receive(audio(0, ramp(0), CUSTOMER))
    assert channels(heard(dialect.receive(audio(0, ramp(1), AGENT)))) == [ramp(0), ramp(1)]


def test_what_cannot_be_served_is_refused():
    for changes in ({"encoding": "opus"}, {"encoding": 3}, {"channels": 2}, {"sampleRate": 10**6}):
        assert refused(dialect_of(), metadata(**changes)) is ErrorCode.BAD_FORMAT
    assert refused(dialect_of(), audio(0, ramp(0))) is ErrorCode.UNEXPECTED_MESSAGE


TIMES = ["2024-11-15T19:16:12.925Z", "2024-11-15", "9999-12-31"]
JSON = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
TOLD = st.fixed_dictionaries(
    {},
    optional={
        "timestamp": st.sampled_from(TIMES) | JSON,
        "participantRawID": st.sampled_from([CUSTOMER, AGENT, OTHER]) | JSON,
        "data": st.binary(max_size=64).map(lambda data: base64.b64encode(data).decode()) | JSON,
        "silent": JSON,
    },
)
MESSAGES = st.lists(
    st.builds(lambda told: json.dumps({"kind": "AudioData", "audioData": told}), TOLD | JSON)
    | st.builds(lambda told: json.dumps({"kind": "DtmfData", "dtmfData": told}), JSON)
    | st.builds(lambda told: json.dumps({"kind": told}), JSON)
    | st.just(metadata()),
    max_size=24,
)


@settings(max_examples=60)
@given(MESSAGES, st.sampled_from(["mixed", "unmixed"]))
def test_whatever_comes_is_understood_or_refused(messages: list[str], mode: str):
    dialect = dialect_of(audio=mode)
    num_bytes = 0
    for message in messages:
        was_started = dialect.start is not None
        try:
            inbound = dialect.receive(message)
        except ProtocolError:
            assert (dialect.start is not None) == was_started
            continue
        for each in inbound:
            if isinstance(each, AudioData):
                assert dialect.start is not None
                assert len(each.data) % dialect.start.format.bytes_per_tick == 0
                num_bytes += len(each.data)
    # What comes out is bounded, whatever timestamps say.
    assert num_bytes < 24 * 3600 * 16_000


# -- Over a socket ---------------------------------------------------------------------------------

TOKEN = "0123456789abcdef"
CONFIG = ServerConfig(
    streams=StreamsConfig(analyse_roles=("customer", "agent")),
    access=AccessConfig(tokens={"calls": TOKEN}, refusal_delay_ms=0),
)
# What Azure signs itself.
AZURES_OWN = {"Authorization": "Bearer eyJhbGciOiJSUzI1NiJ9.e30.x"}


async def until_closed(lab: Lab) -> list[Any]:
    while len(lab.registry):  # noqa: ASYNC110 - no event tells of it
        await asyncio.sleep(0.01)
    return list(lab.published)


@virtual_time
async def test_an_unmixed_call_is_the_timeline_of_the_same_stereo_stream():
    sides = [
        np.round(np.repeat(levels, 3 * 16_000) * 32_767).astype("<i2")
        for levels in ((0.1, 0.2), (0.3, 0.1))
    ]
    async with live_lab(config=CONFIG) as lab:
        path = f"/azure/{TOKEN}?audio=unmixed"
        async with lab.connect(path, additional_headers=AZURES_OWN) as socket:
            await socket.send(metadata())
            for number in range(300):
                for who, samples in zip((CUSTOMER, AGENT), sides, strict=True):
                    data = samples[number * 320 : (number + 1) * 320].tobytes()
                    await socket.send(audio(number, data, who))
        got = await until_closed(lab)
        both = [{"role": "customer"}, {"role": "agent"}]
        native = np.stack(sides, axis=1).tobytes()
        await stream(lab, [native], sample_rate=16_000, channels=both, token=TOKEN)
        expected = lab.published[len(got) :]
        assert timeline(got) == timeline(expected) != []
        for wrong in ("/azure", f"/azure/{TOKEN}x", f"/azure/{TOKEN}?audio=stereo"):
            with pytest.raises(InvalidStatus) as caught:
                async with lab.connect(wrong, additional_headers=AZURES_OWN):
                    pass
            assert caught.value.response.status_code in (400, 401)
