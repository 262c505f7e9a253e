from __future__ import annotations

import pytest

from stream_server.wire.dialect import GOOD_MESSAGES_PER_BAD, MAX_BAD_MESSAGES, BadMessages
from stream_server.wire.errors import ErrorCode, ProtocolError

ERROR = ProtocolError(ErrorCode.BAD_MESSAGE, "got nonsense")


def test_so_many_in_a_row_are_too_many():
    counter = BadMessages()
    for _ in range(MAX_BAD_MESSAGES):
        counter.count_bad(ERROR)
    with pytest.raises(ProtocolError, match="the last one: got nonsense") as caught:
        counter.count_bad(ERROR)
    assert caught.value.code is ErrorCode.TOO_MANY_ERRORS


def test_good_ones_make_up_for_bad_ones_but_not_in_advance():
    counter = BadMessages()
    for _ in range(10 * GOOD_MESSAGES_PER_BAD):
        counter.count_good()
    for _ in range(2 * MAX_BAD_MESSAGES):
        counter.count_bad(ERROR)
        for _ in range(GOOD_MESSAGES_PER_BAD):
            counter.count_good()
    for _ in range(MAX_BAD_MESSAGES):
        counter.count_bad(ERROR)
    with pytest.raises(ProtocolError):
        counter.count_bad(ERROR)
