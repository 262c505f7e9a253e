from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import pytest

from stream_server.platforms.deepgram.query import PARAMETERS, ListenQuery
from stream_server.wire.errors import ProtocolError
from stream_server.wire.start import StreamSpec
from tests.requirements import REPOSITORY

ROLES = ("customer", "agent")


def read(query: str) -> ListenQuery:
    return ListenQuery.of(parse_qsl(query, keep_blank_values=True))


def spec(query: str, **options: Any) -> StreamSpec:
    return read(query).spec(ROLES, **options)


def test_what_a_client_of_deepgram_asks_for():
    query = read(
        "model=nova-3&language=en-US&punctuate=true&smart_format=true&encoding=mulaw"
        "&sample_rate=8000&channels=2&multichannel=true&interim_results=true&vad_events=true"
        "&utterance_end_ms=1000&endpointing=300&keyterm=a&keyterm=b&no_such_thing=1"
    )
    assert query.interim_results
    assert query.vad_events
    assert query.utterance_end_ms == 1000
    asked = query.spec(ROLES)
    assert (asked.format.encoding, asked.format.sample_rate_hz) == ("mulaw", 8000)
    assert [channel.role for channel in asked.channels] == ["customer", "agent"]
    assert asked.wants == {"points", "segments"}
    assert asked.live


def test_nothing_is_asked_for_by_default():
    query = read("encoding=linear16&sample_rate=16000")
    assert not (query.interim_results or query.vad_events or query.gaps or query.transcript)
    assert (query.utterance_end_ms, query.token, query.name) == (0, "", "")
    assert [channel.role for channel in query.spec(ROLES).channels] == ["speaker"]


@pytest.mark.parametrize(
    ("encoding", "ours"),
    [
        ("linear16", "pcm_s16le"),
        ("linear32", "pcm_f32le"),
        ("mulaw", "mulaw"),
        ("alaw", "alaw"),
    ],
)
def test_encodings(encoding: str, ours: str):
    assert spec(f"encoding={encoding}&sample_rate=48000").format.encoding == ours


@pytest.mark.parametrize("text", ["true", "True", "TRUE"])
def test_python_clients_write_booleans_their_way(text: str):
    assert read(f"encoding=alaw&sample_rate=8000&interim_results={text}").interim_results


def test_tags_and_extras_are_kept_with_the_stream():
    asked = spec(
        "encoding=alaw&sample_rate=8000&tag=a&tag=b&extra=queue:sales&extra=flag",
        more_metadata={"request_id": "r"},
    )
    assert asked.metadata == {"tag": "a,b", "queue": "sales", "flag": "", "request_id": "r"}


@pytest.mark.parametrize("query", ["roles=agent,driver", "role=agent&role=driver"])
def test_roles_and_name_are_ours(query: str):
    asked = spec(f"encoding=linear16&sample_rate=16000&{query}&name=A+call&live=false")
    assert [channel.role for channel in asked.channels] == ["agent", "driver"]
    assert (asked.name, asked.live) == ("A call", False)


def test_a_token_is_in_no_text_that_could_be_logged():
    assert read("token=secret-of-mine").token == "secret-of-mine"
    assert "secret-of-mine" not in repr(read("token=secret-of-mine"))


def test_without_an_encoding_the_header_says_what_it_is():
    query = read("sample_rate=16000&channels=2")
    assert query.encoding is None
    asked = query.spec(ROLES, found=("pcm_s16le", 44_100, 1))
    assert (asked.format.sample_rate_hz, asked.format.num_channels) == (44_100, 1)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("encoding=silk&sample_rate=48000", "got encoding 'silk', expected linear16"),
        ("encoding=linear16", "without sample_rate"),
        ("encoding=linear16&sample_rate=fast", "expected a whole number"),
        ("encoding=linear16&sample_rate=100", "8000 to 48000"),
        ("encoding=linear16&sample_rate=8000&channels=0", "1 to 8"),
        ("encoding=linear16&sample_rate=8000&channels=9", "1 to 8"),
        ("encoding=linear16&sample_rate=8000&channels=99999999", "1 to 8"),
        ("encoding=linear16&sample_rate=8000&encoding=alaw", "'encoding' more than once"),
        ("encoding=linear16&sample_rate=8000&multichannel=maybe", "expected true or false"),
        ("encoding=linear16&sample_rate=8000&utterance_end_ms=soon", "a whole number"),
        ("encoding=linear16&sample_rate=8000&utterance_end_ms=99999", "0 to 60000 ms"),
        ("encoding=linear16&sample_rate=8000&transcript=words", "label or none"),
        ("encoding=linear16&sample_rate=8000&callback=http://x", "results come on this WebSocket"),
        ("encoding=linear16&sample_rate=8000&roles=a,b&channels=1", "2 roles for 1 channels"),
        ("encoding=linear16&sample_rate=8000&roles=" + "a," * 9, "10 channels, expected 1 to 8"),
        ("encoding=linear16&sample_rate=8000&role=A%20b", "a-z, 0-9"),
        ("encoding=linear16&sample_rate=8000&tag=" + "x" * 300, "at most 256"),
        (
            "encoding=linear16&sample_rate=8000"
            + "".join(f"&extra=key{number}:1" for number in range(40)),
            "40 entries of metadata",
        ),
    ],
)
def test_what_is_refused(query: str, told: str):
    with pytest.raises(ProtocolError, match=told) as caught:
        spec(query)
    assert caught.value.kind.http_status == 400


def test_every_parameter_is_described():
    page = (REPOSITORY / "stream_server/platforms/deepgram/README.md").read_text(encoding="utf-8")
    for name in (*PARAMETERS, "tag", "extra", "role", "roles"):
        assert f"`{name}`" in page


@pytest.mark.parametrize(
    ("query", "default", "has_label"),
    [
        ("", "none", False),
        ("", "label", True),
        ("&transcript=none", "label", False),
        ("&transcript=label", "none", True),
        ("&model=label", "none", True),
        ("&model=Emotion-Label", "none", True),
        ("&model=nova-3", "none", False),
        ("&model=label&transcript=none", "none", False),
    ],
)
def test_every_client_can_say_that_it_wants_the_label_as_its_transcript(
    query: str, default: str, has_label: bool
):
    pairs = parse_qsl("encoding=linear16&sample_rate=16000" + query)
    assert ListenQuery.of(pairs, default_transcript=default).transcript == has_label
