from __future__ import annotations

import pytest

from stream_server.wire.errors import ERRORS, ErrorCode, ProtocolError
from stream_server.wire.messages import Error, error_message
from stream_server.wire.native_client import retry_after_close, retry_after_refusal


@pytest.mark.parametrize("code", [code for code in ErrorCode if ERRORS[code].close_code])
def test_an_error_decides(code: ErrorCode):
    error = error_message(ProtocolError(code, ""))
    assert retry_after_close(error.close_code, error) == ERRORS[code].retry
    assert retry_after_close(None, error) == ERRORS[code].retry


@pytest.mark.parametrize(
    ("close_code", "expected"),
    [
        (None, True),
        (1000, False),
        (1001, True),
        (1002, False),
        (1006, True),
        (1008, False),
        (1009, False),
        (1011, True),
        (1012, True),
        (1013, True),
        (4400, False),
        (4401, False),
        (4408, True),
        (4409, False),
        (4503, True),
        (4999, False),
    ],
)
def test_a_close_code_alone(close_code: int | None, expected: bool):
    assert retry_after_close(close_code) == expected


def test_an_error_of_a_later_version_is_judged_by_its_close_code():
    error = Error(code="new", message="", remedy="", close_code=4503)
    assert retry_after_close(4503, error)
    assert not retry_after_close(4400, error)


@pytest.mark.parametrize(
    ("http_status", "expected"),
    [
        (200, False),
        (301, False),
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (408, True),
        (429, True),
        (500, True),
        (502, True),
        (503, True),
        (504, True),
    ],
)
def test_a_refused_handshake(http_status: int, expected: bool):
    assert retry_after_refusal(http_status) == expected
