from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.wire.errors import ProtocolError
from stream_server.wire.feed_messages import decode_server_message
from stream_server.wire.messages import ServerMessage
from tests.support.protocol_lab import server_messages


@pytest.mark.parametrize("message", server_messages(), ids=lambda m: type(m).__name__)
def test_every_message_is_understood(message: ServerMessage):
    assert decode_server_message(msgspec.json.encode(message).decode()) == message


def test_a_type_of_a_later_version_is_nothing():
    assert decode_server_message('{"type": "mood", "x": 1}') is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"type": "point"}', "[" * 100_000, "\ud800"])
def test_what_no_server_says_is_an_error(text: str):
    with pytest.raises(ProtocolError, match="not of this protocol"):
        decode_server_message(text)


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_nothing_that_comes_breaks_it(text: str):
    try:
        decode_server_message(text)
    except ProtocolError:
        pass
