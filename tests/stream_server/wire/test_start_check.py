from __future__ import annotations

from typing import Any

import pytest

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ChannelSpec, ResumeRequest, Start
from stream_server.wire.start import check_start, start_from_query


def start(**changes: Any) -> Start:
    return Start(**{"encoding": "mulaw", "sample_rate": 8000, **changes})


def test_a_start_becomes_a_spec():
    channels = (ChannelSpec(role="customer", name="Ann"), ChannelSpec(role="agent-2_b"))
    resume = ResumeRequest(token="t", next_sample=0)
    spec = check_start(
        start(
            channels=channels,
            name="Call 17",
            metadata={"queue": "生气"},
            wants=("alerts",),
            resume=resume,
            token="secret",
        )
    )
    assert spec.format == AudioFormat("mulaw", 8000, 2)
    assert (spec.channels, spec.name, spec.metadata) == (channels, "Call 17", {"queue": "生气"})
    assert (spec.wants, spec.resume, spec.token) == (frozenset(("alerts",)), resume, "secret")
    assert "secret" not in repr(spec)


@pytest.mark.parametrize(
    ("wants", "expected"),
    [
        ((), set()),
        (("frames",), {"frames", "points"}),
        (("segments", "points"), {"segments", "points"}),
    ],
)
def test_wants(wants: tuple[Any, ...], expected: set[str]):
    assert check_start(start(wants=wants)).wants == expected


@pytest.mark.parametrize(
    ("changes", "code", "expected"),
    [
        ({"version": 2}, ErrorCode.UNSUPPORTED_VERSION, "got version 2, expected 1"),
        ({"version": 10**30}, ErrorCode.UNSUPPORTED_VERSION, "a number beyond 64 bits"),
        ({"encoding": "speex"}, ErrorCode.BAD_FORMAT, "got encoding 'speex'"),
        ({"sample_rate": 4000}, ErrorCode.BAD_FORMAT, "got sample_rate 4000"),
        ({"channels": ()}, ErrorCode.BAD_FORMAT, "got 0 channels"),
        ({"channels": (ChannelSpec(),) * 9}, ErrorCode.BAD_FORMAT, "got 9 channels"),
        ({"channels": (ChannelSpec(role=""),)}, ErrorCode.BAD_START, "got role '' of channel 0"),
        ({"channels": (ChannelSpec(role="Agent"),)}, ErrorCode.BAD_START, "got role 'Agent'"),
        ({"channels": (ChannelSpec(role="a\n"),)}, ErrorCode.BAD_START, r"got role 'a\\n'"),
        ({"channels": (ChannelSpec(role="a" * 33),)}, ErrorCode.BAD_START, "got role 'aaa"),
        ({"channels": (ChannelSpec(name="x" * 257),)}, ErrorCode.BAD_START, "got 257 characters"),
        ({"name": "x" * 257}, ErrorCode.BAD_START, "got 257 characters for name"),
        ({"name": "a\x00b"}, ErrorCode.BAD_START, r"got the character U\+0000 in name"),
        ({"name": "\ud800"}, ErrorCode.BAD_START, r"U\+D800"),
        ({"metadata": {"": "x"}}, ErrorCode.BAD_START, "got an empty name in metadata"),
        ({"metadata": {"k" * 257: "x"}}, ErrorCode.BAD_START, "got 257 characters"),
        ({"metadata": {"k": "x" * 257}}, ErrorCode.BAD_START, "for metadata 'k'"),
        ({"metadata": {"k": "\n"}}, ErrorCode.BAD_START, r"U\+000A in metadata 'k'"),
        (
            {"metadata": {str(index): "" for index in range(33)}},
            ErrorCode.BAD_START,
            "got 33 entries of metadata, expected at most 32",
        ),
        ({"wants": ("points", "points")}, ErrorCode.BAD_START, "got 'points' twice in wants"),
        ({"wants": ("words",)}, ErrorCode.BAD_START, "got 'words' in wants"),
        ({"token": "x" * 1025}, ErrorCode.BAD_START, "got 1025 characters for token"),
        (
            {"resume": ResumeRequest(token="", next_sample=0)},
            ErrorCode.BAD_START,
            "got an empty resume.token",
        ),
        (
            {"resume": ResumeRequest(token="t" * 1025, next_sample=0)},
            ErrorCode.BAD_START,
            "for resume.token",
        ),
        (
            {"resume": ResumeRequest(token="t", next_sample=-1)},
            ErrorCode.BAD_START,
            "got resume.next_sample -1, expected 0 to",
        ),
        (
            {"resume": ResumeRequest(token="t", next_sample=1 << 60)},
            ErrorCode.BAD_START,
            "got resume.next_sample",
        ),
        (
            {"resume": ResumeRequest(token="t", next_sample=0, last_seq=-2)},
            ErrorCode.BAD_START,
            "got resume.last_seq -2, expected -1 or more",
        ),
    ],
)
def test_a_wrong_start_is_refused(changes: dict[str, Any], code: ErrorCode, expected: str):
    with pytest.raises(ProtocolError, match=expected) as caught:
        check_start(start(**changes))
    assert caught.value.code is code
    assert "expected" in str(caught.value)
    assert caught.value.ends_stream


def test_bounds_are_taken():
    check_start(
        start(
            name="x" * 256,
            channels=(ChannelSpec(role="a" * 32, name="x" * 256),) * 8,
            metadata={f"{index:0256}": "x" * 256 for index in range(32)},
        )
    )


def test_the_defaults_of_a_query():
    assert start_from_query({}) == Start(encoding="pcm_s16le", sample_rate=16_000)


def test_a_whole_query():
    query = {
        "encoding": "alaw",
        "sample_rate": "8000",
        "channels": "2",
        "roles": "customer,agent",
        "names": "Ann,",
        "name": "Call 17",
        "wants": "points,frames",
        "meta.queue": "sales",
        "meta.a.b": "",
        "version": "1",
    }
    assert start_from_query(query) == Start(
        encoding="alaw",
        sample_rate=8000,
        channels=(ChannelSpec(role="customer", name="Ann"), ChannelSpec(role="agent")),
        name="Call 17",
        metadata={"queue": "sales", "a.b": ""},
        wants=("points", "frames"),
    )


@pytest.mark.parametrize(
    ("query", "roles"),
    [
        ({"channels": "2"}, ["speaker", "speaker"]),
        ({"roles": "driver,passenger"}, ["driver", "passenger"]),
        ({"names": "Ann,Bob,Cy"}, ["speaker"] * 3),
    ],
)
def test_the_number_of_channels_of_a_query(query: dict[str, str], roles: list[str]):
    assert [channel.role for channel in start_from_query(query).channels] == roles


def test_a_query_may_want_nothing():
    assert start_from_query({"wants": ""}).wants == ()


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"samplerate": "8000"}, "got 'samplerate' in the query, expected encoding, sample_rate"),
        ({"token": "x"}, "an access token goes into a header or 'start'"),
        ({"sample_rate": "16k"}, "got sample_rate '16k' in the query, expected a whole number"),
        ({"sample_rate": ""}, "got sample_rate ''"),
        ({"sample_rate": "-1"}, "got sample_rate '-1'"),
        ({"sample_rate": "\uff11\uff16"}, "got sample_rate"),
        ({"version": "9" * 5000}, "got version '999"),
        ({"channels": "2", "roles": "customer"}, "got 1 roles for 2 channels"),
        ({"roles": "customer,agent", "names": "a"}, "got 1 names for 2 channels"),
        ({"channels": "999999999"}, "got 999999999 channels, expected 1 to 8"),
        ({"roles": "a," * 20}, "got 21 channels, expected 1 to 8"),
        ({"roles": "customer,"}, "got role '' of channel 1"),
        ({"wants": "points,"}, "got '' in wants"),
        ({"meta.": "x"}, "got an empty name in metadata"),
    ],
)
def test_a_wrong_query_is_refused(query: dict[str, str], expected: str):
    with pytest.raises(ProtocolError, match=expected) as caught:
        check_start(start_from_query(query))
    assert caught.value.kind.http_status == 400
