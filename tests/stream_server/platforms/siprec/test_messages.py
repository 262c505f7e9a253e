"""SIP messages: what is read of them, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.siprec.messages import (
    MAX_MESSAGE_BYTES,
    Request,
    Response,
    StreamParser,
    Via,
    checked,
    encode_response,
    parse_message,
    split_list,
)
from stream_server.wire.errors import ErrorCode, ProtocolError
from tests.support.siprec_lab import invite, request

WRITTEN_ODDLY = (
    b"\r\n\r\nINVITE sip:srs@10.0.0.1 SIP/2.0\r\n"
    b"v: SIP/2.0/UDP proxy.example.net:5080;rport;branch=z9hG4bKb, SIP/2.0/TCP 10.0.0.9\r\n"
    b'f: "Smith; tag=no" <sip:src@example.net;tag=neither>\r\n ;tag=yes\r\n'
    b"t: sip:srs@10.0.0.1\r\ni: 1@x\r\nCSeq: 7   INVITE\r\n"
    b"Record-Route: <sip:a;lr>,<sip:b;lr>\r\n"
    b"l: 3\r\n\r\nabcdef"
)


def test_compact_folded_and_listed_headers_are_read():
    message = parse_message(WRITTEN_ODDLY)
    assert isinstance(message, Request)
    checked(message)
    assert (message.tag("from"), message.tag("to")) == ("yes", "")
    assert message.via == Via("proxy.example.net:5080", 5080, "z9hG4bKb", wants_port=True)
    assert len(message.all("via")) == 2
    assert message.all("record-route") == ["<sip:a;lr>", "<sip:b;lr>"]
    assert message.cseq == (7, "INVITE")
    assert message.body == b"abc"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "first line"),
        (b"INVITE sip:a SIP/1.0\r\n\r\n", "first line"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01", "first line"),
        (b"INVITE sip:a SIP/2.0\r\nVia\r\n\r\n", "a header"),
        (b"INVITE sip:a SIP/2.0\r\nl: 9\r\n\r\nabc", "Content-Length is 9"),
        (b"INVITE sip:a SIP/2.0\r\n" + b"a: b\r\n" * 200 + b"\r\n", "more than 128 headers"),
        (b"x" * (MAX_MESSAGE_BYTES + 1), "expected 65536"),
    ],
)
def test_what_is_no_message_is_refused(data: bytes, problem: str):
    with pytest.raises(ProtocolError, match=problem) as caught:
        parse_message(data)
    assert caught.value.code is ErrorCode.BAD_MESSAGE


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ((b"Call-ID: ", b"X: "), "without Call-Id"),
        ((b"CSeq: 1 INVITE", b"CSeq: 1 BYE"), "CSeq '1 BYE'"),
        ((b"CSeq: 1 ", b"CSeq: 99999999999 "), "CSeq"),
        ((b";tag=35", b";gat=35"), "whose From has no tag"),
    ],
)
def test_a_request_that_lacks_something_is_told_so(change: tuple[bytes, bytes], problem: str):
    message = parse_message(invite().replace(*change))
    assert isinstance(message, Request)
    with pytest.raises(ProtocolError, match=problem):
        checked(message)


def test_no_header_can_be_smuggled_into_an_answer():
    sent = request("OPTIONS", headers=["Subject: x"])
    message = parse_message(sent.replace(b"a84b4c76e66710", b"a\rX-Evil: 1\x0b"))
    assert isinstance(message, Request)
    answer = encode_response(message, 200, "OK\r\nX-Evil: 2", received=("10.0.0.9", 5062))
    assert not any(line.startswith(b"X-Evil") for line in answer.replace(b"\r", b"\n").split(b"\n"))
    parsed = parse_message(answer)
    assert isinstance(parsed, Response)
    assert "received=10.0.0.9;rport=5062" in parsed.get("via")


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_nothing_but_a_protocol_error_comes_of_any_bytes(data: bytes):
    for head in (b"", b"INVITE sip:a SIP/2.0\r\nVia: ", b"SIP/2.0 200 OK\r\nCSeq:"):
        try:
            message = parse_message(head + data)
            if isinstance(message, Request):
                assert message.transaction
                checked(message)
            assert message.cseq
        except ProtocolError as error:
            assert error.code is ErrorCode.BAD_MESSAGE


@given(st.lists(st.integers(1, 90), max_size=60))
def test_a_connection_is_cut_into_messages_however_it_comes(sizes: list[int]):
    sent = [invite(), request("OPTIONS"), b"\r\n\r\n", request("BYE", body=b"\r\n\r\nl: 999999")]
    data, parser = b"".join(sent), StreamParser()
    got: list[bytes] = []
    while data:
        size = sizes.pop() if sizes else len(data)
        got += parser.receive(data[:size])
        data = data[size:]
    # The third is a ping.
    assert got == [each if each.strip() else b"" for each in sent]


@pytest.mark.parametrize(
    "data",
    [
        b"INVITE sip:a SIP/2.0\r\n\r\n",
        b"INVITE sip:a SIP/2.0\r\nl: 70000\r\n\r\n",
        b"x" * (MAX_MESSAGE_BYTES + 1),
    ],
)
def test_a_connection_whose_messages_have_no_end_is_refused(data: bytes):
    sent = request("BYE")
    messages = StreamParser().receive(sent + data)
    assert next(messages) == sent
    with pytest.raises(ProtocolError):
        next(messages)


@given(st.text(alphabet='a,"<> ', max_size=30))
def test_a_list_loses_nothing(value: str):
    kept = "".join(split_list(value)).replace(" ", "").replace(",", "")
    assert kept == value.replace(" ", "").replace(",", "")
