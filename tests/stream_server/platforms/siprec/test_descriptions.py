"""What an INVITE's body says: media lines, and who is heard on them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.siprec.messages import Request, parse_message
from stream_server.platforms.siprec.metadata import (
    RecordingMetadata,
    body_parts,
    parse_metadata,
    roles_of_lines,
)
from stream_server.platforms.siprec.sdp import (
    Accepted,
    chosen_of,
    is_receivable,
    make_answer,
    parse_offer,
)
from stream_server.rtp import RtpCodec
from stream_server.wire.errors import ErrorCode, ProtocolError
from tests.support.siprec_lab import METADATA, invite, offer

LINES = [(0, "1"), (1, "2")]
ROLES = ("customer", "agent")

OPENSIPS_METADATA = b"""<?xml version="1.0" encoding="UTF-8"?>
<recording xmlns='urn:ietf:params:xml:ns:recording:1'>
 <session session_id="zt5VmPy6ToGd2UtWgw94WA=="/>
 <participant participant_id="u9SaBH9XTC2Vvlp4VoL+XA=="><nameID aor="sip:1001@a"/></participant>
 <participant participant_id="gAQi+24ERG2zlxBGXN4BVQ=="><nameID aor="sip:1006@b"/></participant>
 <participantstreamassoc participant_id="u9SaBH9XTC2Vvlp4VoL+XA=="/>
</recording>"""
"""In the form of OpenSIPS before 3.5, which names no streams."""

ORACLE_METADATA = b"""<?xml version='1.0' encoding='UTF-8'?>
<rec:recording xmlns:rec='urn:ietf:params:xml:ns:recording'>
 <rec:session id="WTREQVbFS55gDsXg2DYUHA=="/>
 <rec:participant id="kaQjNo8wQtp1OJyu5UhNMA==" session="WTREQVbFS55gDsXg2DYUHA==">
  <rec:nameID aor="sip:5001@example.com"><rec:name>Agent 7</rec:name></rec:nameID>
  <rec:send>i1Pz3to5hGk8fuXl+PbwCw==</rec:send>
 </rec:participant>
 <rec:participant id="Xd9AhJm3Qh5oRcZz2kXKCw==" session="WTREQVbFS55gDsXg2DYUHA==">
  <rec:aor>sip:+4930@carrier</rec:aor><rec:send>8zc6e0lYTlWIINA6GR+3ag==</rec:send>
 </rec:participant>
 <rec:stream id="i1Pz3to5hGk8fuXl+PbwCw=="><rec:label>1</rec:label></rec:stream>
 <rec:stream id="8zc6e0lYTlWIINA6GR+3ag=="><rec:label>2</rec:label></rec:stream>
</rec:recording>"""
"""In the form of the drafts, with which Oracle's (Acme Packet's) controllers name things."""


def parsed(data: bytes) -> Request:
    message = parse_message(data)
    assert isinstance(message, Request)
    return message


def test_the_body_of_an_invite():
    description, about = body_parts(parsed(invite()))
    first, second = parse_offer(description)
    assert (first.label, first.port, first.direction) == ("1", 9000, "sendonly")
    assert second.address == "127.0.0.1"
    assert first.codecs == (
        RtpCodec(0, "PCMU", 8000),
        RtpCodec(8, "PCMA", 8000),
        RtpCodec(101, "TELEPHONE-EVENT", 8000),
    )
    assert (first.event_type(8000), first.event_type(16_000)) == (101, None)
    metadata = parse_metadata(about)
    assert metadata.session_id == "hVpd7YQgRW2nD22h7q60JQ=="
    assert [one.names[0] for one in metadata.senders("2", 1)] == ["sip:1001@pbx.example.org"]


@pytest.mark.parametrize(
    ("data", "agents", "roles"),
    [
        (METADATA.encode(), (), ["customer", "agent"]),
        (METADATA.encode(), ("*@pbx.example.org",), ["customer", "agent"]),
        (METADATA.encode(), ("+4930*",), ["agent", "customer"]),
        (METADATA.encode(), ("KUNDIN",), ["agent", "customer"]),
        (METADATA.encode(), ("*",), ["agent", "agent"]),
        (METADATA.encode(), ("nobody",), ["customer", "agent"]),
        (OPENSIPS_METADATA, ("1001@a",), ["agent", "customer"]),
        (OPENSIPS_METADATA, ("1006@*",), ["customer", "agent"]),
        (ORACLE_METADATA, ("agent *",), ["agent", "customer"]),
        (ORACLE_METADATA, ("sip:+4930@carrier",), ["customer", "agent"]),
        (b"<recording/>", ("*",), ["customer", "agent"]),
    ],
)
def test_who_works_here_is_told_by_address_or_name(
    data: bytes, agents: tuple[str, ...], roles: list[str]
):
    assert roles_of_lines(parse_metadata(data), LINES, ROLES, agents) == roles


def test_a_line_of_several_people_is_mixed():
    both = METADATA.replace("8zc6e0lYTlWIINA6GR+3ag==", "UAAMm5GRQKSCMVvLyl4rFw==")
    assert roles_of_lines(parse_metadata(both.encode()), [(0, "1")], ROLES, ()) == ["customer"]
    one = both.replace("<label>2", "<label>1")
    # The stream's second mention gives its label.
    metadata = parse_metadata(one.encode())
    assert roles_of_lines(metadata, [(0, "1")], ROLES, ("1001@*",)) == ["mixed"]


LAUGHS = b"""<!DOCTYPE r [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]><recording>&b;</recording>"""
OUTSIDE = b"""<!DOCTYPE r SYSTEM "file:///etc/passwd"><recording/>"""


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (LAUGHS, "document type"),
        (OUTSIDE, "document type"),
        (b"<recording>&a;</recording>", "not XML"),
        (b"<recording>", "not XML"),
        (b"\xff\xfe", "not XML"),
        (b"<?xml version='1.0' encoding='rot13'?><recording/>", "not XML"),
        (b"<a>" * 40 + b"</a>" * 40, "levels"),
        (b"<a>" + b"<b/>" * 5000 + b"</a>", "elements"),
    ],
)
def test_hostile_metadata_is_refused(data: bytes, problem: str):
    with pytest.raises(ProtocolError, match=problem) as caught:
        parse_metadata(data)
    assert caught.value.code is ErrorCode.BAD_MESSAGE


def test_long_texts_are_cut():
    data = (
        b"<recording><participant id='p'><name>"
        + b"x" * 9999
        + b"</name></participant></recording>"
    )
    (participant,) = parse_metadata(data).participants.values()
    assert len(participant.names[0]) == 1024


@given(
    st.text(max_size=200)
    | st.sampled_from([METADATA]).flatmap(
        lambda text: st.integers(0, len(text)).map(lambda at: text[:at])
    )
)
def test_metadata_is_read_or_refused(text: str):
    try:
        assert isinstance(parse_metadata(text.encode("utf-8", "replace")), RecordingMetadata)
    except ProtocolError as error:
        assert error.code is ErrorCode.BAD_MESSAGE


@given(
    st.lists(
        st.sampled_from(
            [
                "--foobar",
                "--",
                "\r\n",
                "Content-Type: application/sdp",
                ":",
                "v=0",
                "m=audio 1 RTP/AVP 0",
                "m=",
                "a=rtpmap:0",
                "a=rtpmap:96 L16/8000/1",
                "c=IN IP4 1.1.1.1",
                "a=label:1",
            ]
        ),
        max_size=30,
    )
)
def test_a_body_is_read_or_refused(parts: list[str]):
    data = invite().partition(b"\r\n\r\n")[0].rpartition(b"Content-Length")[0]
    body = "".join(parts)
    message = parsed(data + b"\r\n\r\n" + body.encode())
    try:
        description, _ = body_parts(message)
        for media in parse_offer(description) + parse_offer(b"v=0\r\n" + body.encode()):
            assert is_receivable(media) in (True, False)
    except ProtocolError as error:
        assert error.code in (ErrorCode.BAD_MESSAGE, ErrorCode.BAD_FORMAT)


def test_the_answer_has_every_line_of_the_offer():
    description = offer(codecs="8 96 101").encode() + (
        b"m=video 9100 RTP/AVP 99\r\nm=audio 9104 RTP/SAVP 0\r\nm=audio 0 RTP/AVP 0\r\n"
    )
    offered = parse_offer(description)
    assert [is_receivable(each) for each in offered] == [True, True, False, False, False]
    accepted = [
        Accepted(RtpCodec(8, "PCMA", 8000), 30_000),
        Accepted(RtpCodec(96, "L16", 16_000), 30_002),
        None,
        None,
        None,
    ]
    answer = make_answer(offered, accepted, address="::1", session_id=7, version=1)
    assert b"c=IN IP6 ::1\r\n" in answer
    again = parse_offer(answer)
    assert [each.port for each in again] == [30_000, 30_002, 0, 0, 0]
    assert [each.label for each in again[:2]] == ["1", "2"]
    assert [each.direction for each in again[:2]] == ["recvonly", "recvonly"]
    # Events only at the clock of the codec.
    assert [each.formats for each in again[:2]] == [("8", "101"), ("96",)]


@pytest.mark.parametrize("number", ["9" * 5000, "²", "-1", "1e3", ""])
def test_a_number_that_none_can_be_is_left_out_or_refused(number: str):
    described = offer(codecs=f"{number} 0", rtpmap=f"{number} L16/{number}")
    assert [each.payload_type for each in parse_offer(described.encode())[0].codecs] == [0]
    with pytest.raises(ProtocolError, match="expected m=KIND PORT"):
        parse_offer(described.replace("m=audio 9000", f"m=audio {number}").encode())


@pytest.mark.needs("av")
@pytest.mark.parametrize(
    ("first", "second", "chosen"),
    [
        ("0 8", "0 8", ["PCMU", "PCMU"]),
        ("8 0", "0", ["PCMA", "PCMU"]),  # of one rate, and both become samples
        ("9 0", "9 0", ["G722", "G722"]),
        ("9 0", "8", ["PCMU", "PCMA"]),  # both lines go before the codec that is preferred
        ("9 96", "96", ["L16", "L16"]),
        ("9", "0", ["G722"]),
        ("18", "0", [None, "PCMU"]),
        ("18", "18", []),
    ],
)
def test_the_codecs_of_a_call_go_together(first: str, second: str, chosen: list[str | None]):
    description = offer(codecs=first).replace("9002 RTP/AVP " + first, "9002 RTP/AVP " + second)
    offered = parse_offer(description.encode())
    got = chosen_of(offered, most=2, received=(), form=None)
    names = [got[at].codec.name if at in got else None for at in range(2)]
    assert [*names, None][: len(chosen)] == chosen


def test_a_call_that_runs_keeps_its_form_and_its_lines():
    offered = parse_offer(offer(("1", "2", "3"), codecs="96 8").encode())
    kept = chosen_of(offered, most=2, received=(2,), form=("", 8000))
    assert {at: each.codec.name for at, each in kept.items()} == {0: "PCMA", 2: "PCMA"}


@pytest.mark.needs("av")
def test_opus_is_taken_as_it_is_told_and_no_other_way():
    told = parse_offer(offer(codecs="97", rtpmap="97 opus/48000/2").encode())
    chosen = chosen_of(told, most=2, received=(), form=None)
    assert [each.form for each in chosen.values()] == [("opus", 48_000)] * 2
    answer = make_answer(
        told[:1], [Accepted(chosen[0].codec, 30_000)], address="::1", session_id=1, version=1
    )
    assert b"a=rtpmap:97 OPUS/48000/2" in answer
    mono = parse_offer(offer(codecs="97", rtpmap="97 opus/48000").encode())
    assert chosen_of(mono, most=2, received=(), form=None) == {}
