from __future__ import annotations

import pytest

from stream_server.wire.errors import ERRORS, ErrorCode, ProtocolError, shown
from stream_server.wire.messages import error_message


def test_every_code_has_an_entry():
    assert list(ERRORS) == list(ErrorCode)


@pytest.mark.parametrize("code", ErrorCode)
def test_close_codes_and_statuses_are_legal(code: ErrorCode):
    kind = ERRORS[code]
    assert kind.close_code in (None, 1000, 1001, 1009) or 4000 <= (kind.close_code or 0) <= 4999
    assert 400 <= kind.http_status <= 599
    assert kind.remedy.endswith(".")


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_tells_what_it_does(code: ErrorCode):
    error = ProtocolError(code, "got a, expected b", retry_after_s=2.0)
    message = error_message(error)
    assert error.ends_stream == (ERRORS[code].close_code is not None)
    assert (message.code, message.message) == (code.value, "got a, expected b")
    assert (message.close_code, message.remedy) == (ERRORS[code].close_code, ERRORS[code].remedy)
    assert message.retry_after_s == 2.0


def test_what_does_not_end_a_stream_is_not_worth_a_reconnect():
    assert not any(kind.retry for kind in ERRORS.values() if kind.close_code is None)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("x", "'x'"),
        ("生气", "'生气'"),
        ("a\nb\ud800", r"'a\nb\ud800'"),
        ("", "''"),
        (5, "5"),
        (-(10**18), str(-(10**18))),
        (1 << 65, "a number beyond 64 bits"),
    ],
)
def test_what_was_got_is_shown(value: str | int, expected: str):
    assert shown(value) == expected


@pytest.mark.parametrize("value", ["x" * 59, "x" * 1000, "\ud800" * 1000, "'" * 1000, "\n" * 60])
def test_what_was_got_is_shown_in_short(value: str):
    assert len(shown(value)) <= 60
    assert shown(value).isprintable()


def test_a_number_that_python_does_not_print_is_shown():
    assert shown(10**5000) == "a number beyond 64 bits"
