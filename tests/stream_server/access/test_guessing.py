"""Whoever guesses is slowed down, and keeps nobody else out."""

from __future__ import annotations

import pytest

from stream_server.access import Access, AccessConfig, Arrival, ListenConfig
from stream_server.access.guessing import MAX_ATTEMPTS, REFILL_S
from stream_server.wire.errors import ErrorCode, ProtocolError

TOKEN = "crm-0123456789abcdef"
HERE, THERE = "203.0.113.7", "203.0.113.8"


class Clock:
    now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def attempt(access: Access, token: str, address: str = HERE) -> str:
    """Return whose the token is, or why it is refused."""
    try:
        return access.who(Arrival(address, is_secure=False, is_local=False), token).name
    except ProtocolError as error:
        assert error.code is ErrorCode.UNAUTHORIZED
        return "wait" if error.retry_after_s else "wrong"


def test_after_some_wrong_tokens_an_address_has_to_wait_for_each():
    clock = Clock()
    access = Access(AccessConfig(tokens={"crm": TOKEN}), ListenConfig(), now=clock)
    assert [attempt(access, f"{n}") for n in range(MAX_ATTEMPTS)] == ["wrong"] * MAX_ATTEMPTS
    # Not looked at: a guess that is right must not show.
    assert attempt(access, TOKEN) == "wait"
    assert attempt(access, TOKEN, THERE) == "crm"
    clock.now += REFILL_S
    assert attempt(access, TOKEN) == "crm"
    assert attempt(access, "another") == "wrong"
    assert attempt(access, "another") == "wait"
    # What was right from there before is let in, though somebody else there guesses.
    assert attempt(access, TOKEN) == "crm"


def test_a_right_token_is_no_attempt():
    access = Access(AccessConfig(tokens={"crm": TOKEN}), ListenConfig())
    assert {attempt(access, TOKEN) for _ in range(3 * MAX_ATTEMPTS)} == {"crm"}


def test_a_network_of_64_bits_is_one_address():
    access = Access(AccessConfig(tokens={"crm": TOKEN}), ListenConfig(), now=Clock())
    for number in range(MAX_ATTEMPTS):
        assert attempt(access, "wrong", f"2001:db8::{number:x}") == "wrong"
    assert attempt(access, "wrong", "2001:db8::ffff:1") == "wait"
    assert attempt(access, "wrong", "2001:db8:0:1::1") == "wrong"


@pytest.mark.parametrize("name", ["", "anna"])
def test_logins_are_counted_too_and_told_by_address(name: str):
    access = Access(AccessConfig(tokens={"crm": TOKEN}), ListenConfig(), now=Clock())
    told: list[tuple[str, int]] = []
    access.on_guessed = lambda address, times: told.append((address, times))
    for number in range(MAX_ATTEMPTS if not name else 3):
        with pytest.raises(ProtocolError):
            access.log_in(name, f"wrong {number}", HERE)
    assert told == [(HERE, times) for times in ((1, 2) if name else (1, 2, 4, 8, 16))]
    if not name:
        assert attempt(access, TOKEN) == "wait"
