from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.audiohook import signature
from stream_server.platforms.audiohook.signature import (
    REQUIRED_COMPONENTS,
    SignatureVerifier,
    authority_of,
)
from stream_server.wire.errors import ErrorCode, ProtocolError

API_KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = base64.b64decode("TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU=")
TARGET = "/api/v1/voicebiometrics/ws"
CREATED_S = 1_641_013_200

# The example of the protocol's documentation, as the platform's own tests have it: key, secret,
# identifiers and signature.
OFFICIAL = {
    "host": "audiohook.example.com",
    "audiohook-organization-id": "d7934305-0972-4844-938e-9060eef73d05",
    "audiohook-session-id": "30b0e395-84d3-4570-ac13-9a62d8f514c0",
    "audiohook-correlation-id": "e160e428-53e2-487c-977d-96989bf5c99d",
    "x-api-key": API_KEY,
    "signature": "sig1=:NZBwyBHRRyRoeLqy1IzOa9VYBuI8TgMFt2GRDkDuJh4=:",
    "signature-input": (
        'sig1=("@request-target" "@authority" "audiohook-organization-id" "audiohook-session-id"'
        ' "audiohook-correlation-id" "x-api-key");keyid="SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"'
        ';nonce="VGhpc0lzQVVuaXF1ZU5vbmNl";alg="hmac-sha256";created=1641013200;expires=3282026430'
    ),
}


def verifier(**options: Any) -> SignatureVerifier:
    return SignatureVerifier(**{"keys": {API_KEY: SECRET}, "max_age_s": 10.0, **options})


def signed(
    *,
    secret: bytes = SECRET,
    components: tuple[str, ...] = REQUIRED_COMPONENTS,
    parameters: dict[str, str | int] | None = None,
    without: str = "",
    target: str = TARGET,
    **headers: str,
) -> dict[str, str]:
    """Return headers signed as the specification says, written independently of the verifier."""
    values: dict[str, str | int] = {
        "keyid": API_KEY,
        "nonce": "VGhpc0lzQVVuaXF1ZU5vbmNl",
        "alg": "hmac-sha256",
        "created": CREATED_S,
        "expires": CREATED_S + 10,
        **(parameters or {}),
    }
    values.pop(without, None)
    fields = {**OFFICIAL, **{name.replace("_", "-"): value for name, value in headers.items()}}
    names = " ".join(f'"{name}"' for name in components)
    text = f"({names})" + "".join(
        f";{name}={value}" if isinstance(value, int) else f';{name}="{value}"'
        for name, value in values.items()
    )
    derived = {"@request-target": target, "@authority": fields["host"]}
    lines = [f'"{name}": {derived.get(name) or fields.get(name, "")}' for name in components]
    base = "\n".join([*lines, f'"@signature-params": {text}'])
    mac = base64.b64encode(hmac.new(secret, base.encode(), hashlib.sha256).digest()).decode()
    return {**fields, "signature-input": f"sig1={text}", "signature": f"sig1=:{mac}:"}


def refusal(headers: dict[str, str], now_s: float = CREATED_S + 1, **options: Any) -> str:
    with pytest.raises(ProtocolError) as caught:
        verifier(**options).check(headers, TARGET, now_s)
    assert caught.value.code is ErrorCode.UNAUTHORIZED
    return str(caught.value)


def test_the_documented_example_holds():
    verifier().check(OFFICIAL, TARGET, CREATED_S + 1)


def test_the_example_is_what_this_file_signs():
    ours = signed(parameters={"expires": 3_282_026_430})
    assert ours["signature"] == OFFICIAL["signature"]


@pytest.mark.parametrize(
    "header",
    [
        *("audiohook-organization-id", "audiohook-session-id", "audiohook-correlation-id"),
        *("host", "x-api-key"),
    ],
)
def test_what_is_covered_cannot_be_changed(header: str):
    assert "made with another secret" in refusal({**OFFICIAL, header: "something else"})


def test_the_target_cannot_be_changed():
    with pytest.raises(ProtocolError, match="made with another secret"):
        verifier().check(OFFICIAL, TARGET + "?a=b", CREATED_S)


@pytest.mark.parametrize("name", REQUIRED_COMPONENTS)
def test_everything_that_has_to_be_covered_is(name: str):
    components = tuple(each for each in REQUIRED_COMPONENTS if each != name)
    assert f"{name} is not covered" in refusal(signed(components=components))


def test_more_may_be_covered_in_another_order():
    components = (*reversed(REQUIRED_COMPONENTS), "user-agent")
    headers = signed(components=components, user_agent="GenesysCloud-AudioHook-Client")
    verifier().check(headers, TARGET, CREATED_S)


def test_a_header_that_is_covered_has_to_be_there():
    headers = signed(components=(*REQUIRED_COMPONENTS, "date"))
    assert "not in the request" in refusal(headers)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"secret": b"wrong"}, "made with another secret"),
        ({"parameters": {"keyid": "unknown"}, "x_api_key": "unknown"}, "the key is unknown"),
        ({"x_api_key": "another"}, "keyid differs"),
        ({"parameters": {"alg": "rsa-pss-sha512"}}, "algorithm is not hmac-sha256"),
        ({"parameters": {"nonce": "VGhpc0lzQVVuaXF1ZU5vb"}}, "nonce is shorter"),
        ({"without": "nonce"}, "nonce is shorter"),
        ({"without": "created"}, "created is missing"),
        ({"parameters": {"created": "now"}}, "created is not a number"),
        ({"parameters": {"nonce": 1}}, "nonce is not a string"),
        ({"components": (*REQUIRED_COMPONENTS, "x-api-key")}, "covered twice"),
        ({"parameters": {"created": CREATED_S + 5}}, "in the future"),
        ({"parameters": {"created": CREATED_S - 9}}, "older than 10 s"),
        ({"parameters": {"expires": CREATED_S - 2}}, "has expired"),
    ],
)
def test_what_does_not_hold(changes: dict[str, Any], why: str):
    assert why in refusal(signed(**changes))


def test_clocks_may_differ_a_little():
    verifier().check(signed(), TARGET, CREATED_S - 3)
    verifier().check(signed(parameters={"expires": CREATED_S}), TARGET, CREATED_S + 2.9)


def test_without_alg_and_expires_it_holds_too():
    verifier().check(signed(without="alg"), TARGET, CREATED_S)
    verifier().check(signed(without="expires"), TARGET, CREATED_S)


@pytest.mark.parametrize(
    "header",
    [
        *("", "sig1", 'sig1=("a"', "sig1=()", 'sig1=("a";sf);created=1', "SIG=()", "sig1=(a)"),
        *('sig1=("a");created=1,', 'sig1=("a");created', 'sig1=("a") x', 'sig1=("ä");created=1'),
        'sig1=("a");created=1;created=2',
    ],
)
def test_an_input_that_is_not_well_formed(header: str):
    headers = {**OFFICIAL, "signature-input": header}
    assert refusal(headers)


@pytest.mark.parametrize(
    "header", ["", "sig1", "sig1=abc", "sig2=:AAAA:", "sig1=:A:", "sig1=:====:", "sig1=:AAAA:x"]
)
def test_a_signature_that_is_not_well_formed(header: str):
    assert refusal({**OFFICIAL, "signature": header})


def test_no_signature_at_all():
    headers = {n: v for n, v in OFFICIAL.items() if not n.startswith("signature")}
    assert "Signature-Input is missing" in refusal(headers)


def test_others_may_have_signed_as_well():
    headers = signed()
    headers["signature-input"] += ' , proxy=("date");created=1;keyid="p"'
    headers["signature"] += ", proxy=:AAAA:"
    verifier().check(headers, TARGET, CREATED_S)


def test_a_signature_is_taken_once():
    one = verifier()
    one.check(signed(), TARGET, CREATED_S)
    for now_s in (CREATED_S, CREATED_S + 9.9):
        with pytest.raises(ProtocolError, match="used already"):
            one.check(signed(), TARGET, now_s)
    one.check(signed(parameters={"nonce": "n" * 22}), TARGET, CREATED_S)


def test_a_replay_is_refused_at_any_time():
    """When the nonce is forgotten the signature has become too old."""
    for later_s in range(-3, 40):
        one = verifier()
        one.check(signed(without="expires"), TARGET, CREATED_S - 3)
        with pytest.raises(ProtocolError):
            one.check(signed(without="expires"), TARGET, CREATED_S + later_s / 2)


def test_only_who_holds_the_secret_can_fill_the_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signature, "MAX_NONCES", 2)
    one = verifier()
    for number in range(10):
        bad = signed(secret=b"wrong", parameters={"nonce": f"{number:022}"})
        with pytest.raises(ProtocolError, match="made with another secret"):
            one.check(bad, TARGET, CREATED_S)
    for number in range(2):
        one.check(signed(parameters={"nonce": f"{number:022}"}), TARGET, CREATED_S)
    with pytest.raises(ProtocolError, match="more than 2 connections"):
        one.check(signed(), TARGET, CREATED_S)
    # They are forgotten in time.
    later_s = CREATED_S + 10
    one.check(signed(parameters={"created": later_s, "expires": later_s}), TARGET, later_s)


def test_the_public_host_may_be_set():
    behind_proxy = {**OFFICIAL, "host": "10.0.0.7:8765"}
    assert "made with another secret" in refusal(behind_proxy)
    public = authority_of("wss://Audiohook.example.com:443/")
    verifier(authority=public).check(behind_proxy, TARGET, CREATED_S)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("wss://Host.example", "host.example"),
        ("wss://host.example:443", "host.example"),
        ("wss://host.example:8443/x", "host.example:8443"),
        ("ws://host.example:80", "host.example"),
        ("ws://host.example:443", "host.example:443"),
    ],
)
def test_the_authority_of_a_url(url: str, expected: str):
    assert authority_of(url) == expected


@given(st.text(), st.text(), st.text())
def test_no_headers_make_it_fail_otherwise(signature_input: str, value: str, other: str):
    headers = {**OFFICIAL, "signature-input": signature_input, "signature": value, "host": other}
    refusal(headers)


@given(st.sampled_from(sorted(OFFICIAL)), st.text())
def test_no_covered_value_makes_it_fail_otherwise(name: str, value: str):
    if {**OFFICIAL, name: value} != OFFICIAL and value.strip(" \t").lower() != OFFICIAL[name]:
        refusal({**OFFICIAL, name: value})


@pytest.mark.parametrize("text", ["sig1=(" + " " * 8000, 'sig1=("' + "\\\\" * 4000, "a=:" * 2600])
def test_a_long_header_is_read_quickly(text: str):
    """Time that grows with the square of the length would take minutes here."""
    refusal({**OFFICIAL, "signature-input": text * 20, "signature": text * 20})
