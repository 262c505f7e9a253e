from __future__ import annotations

import pytest

from stream_server.streams.socket import MessageRate
from stream_server.wire.errors import ErrorCode, ProtocolError


def refused(rate: MessageRate, now_s: float) -> bool:
    try:
        rate.take(1, now_s)
    except ProtocolError as error:
        assert error.code is ErrorCode.TOO_MANY_MESSAGES
        return True
    return False


def test_a_steady_client_at_the_limit_is_never_refused():
    rate = MessageRate(50, now_s=0.0)
    assert not any(refused(rate, number / 50) for number in range(5000))


def test_a_burst_of_ten_seconds_is_taken_and_no_more():
    rate = MessageRate(50, now_s=0.0)
    assert [refused(rate, 0.0) for _ in range(501)] == [False] * 500 + [True]


def test_what_was_saved_up_is_bounded():
    rate = MessageRate(50, now_s=0.0)
    assert [refused(rate, 3600.0) for _ in range(501)] == [False] * 500 + [True]


def test_says_the_limit():
    rate = MessageRate(0.1, now_s=0.0)
    rate.take(1, 0.0)
    with pytest.raises(ProtocolError, match=r"more than 0\.1 messages a second"):
        rate.take(1, 0.0)
