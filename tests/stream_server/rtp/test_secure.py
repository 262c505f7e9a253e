"""SRTP whose keys are told in the session description."""

from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stream_server.rtp.secure import SUITES, Crypto, Srtp, own_crypto, parse_crypto
from tests.support.siprec_lab import rtp

KEY = bytes(range(30))
INLINE = "inline:" + base64.b64encode(KEY).decode()


@pytest.mark.parametrize("suite", SUITES)
def test_a_key_is_read_and_written(suite: str):
    crypto = parse_crypto(f"7 {suite} {INLINE}")
    assert crypto == Crypto(7, suite, KEY)
    assert parse_crypto(f"7 {suite} {INLINE}|2^20") == crypto
    assert crypto is not None and parse_crypto(crypto.text) == crypto
    own = own_crypto(crypto)
    assert (own.tag, own.suite) == (7, suite) and own.key != KEY
    assert INLINE[7:] not in repr(crypto)


@pytest.mark.parametrize(
    "value",
    [
        f"1 AES_CM_256_HMAC_SHA1_80 {INLINE}",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE}|2^20|1:4",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE} UNENCRYPTED_SRTP",
        f"1 AES_CM_128_HMAC_SHA1_80 {INLINE};{INLINE}",
        f"x AES_CM_128_HMAC_SHA1_80 {INLINE}",
        "1 AES_CM_128_HMAC_SHA1_80 inline:short",
    ],
)
def test_what_cannot_be_used_is_not_taken(value: str):
    assert parse_crypto(value) is None


@given(st.text(max_size=120))
@example("1 AES_CM_128_HMAC_SHA1_80 inline:" + "=" * 40)
def test_any_text_is_a_key_or_none(text: str):
    for value in (text, f"1 AES_CM_128_HMAC_SHA1_80 inline:{text}"):
        crypto = parse_crypto(value)
        assert crypto is None or len(crypto.key) == 30


@pytest.mark.needs("pylibsrtp")
@pytest.mark.parametrize("suite", SUITES)
def test_packets_are_authentic_and_come_once(suite: str):
    sender, receiver = Crypto(1, suite, KEY), own_crypto(Crypto(1, suite, KEY))
    ours, theirs = Srtp(sender, receiver), Srtp(receiver, sender)
    packet = rtp(1, 2, bytes(160))
    # A sender has the same library for its packets; here only what it received is at hand.
    from pylibsrtp import Policy, Session

    policy = Policy(
        key=KEY,
        ssrc_type=Policy.SSRC_ANY_OUTBOUND,
        srtp_profile=getattr(Policy, SUITES[suite]),
    )
    sent = Session(policy).protect(packet)
    assert ours.unprotect(sent[:-1] + bytes([sent[-1] ^ 1])) is None
    assert ours.unprotect(sent) == packet
    assert ours.unprotect(sent) is None
    assert ours.unprotect(packet) is None and ours.unprotect(bytes(3000)) is None
    report = b"\x80\xc9\0\1\0\0\0\7"
    assert theirs.unprotect_control(ours.protect_control(report)) == report
    assert ours.unprotect_control(b"") is None
