from __future__ import annotations

import json

import pytest

from stream_server.alerts.actions import is_worth_retrying, retry_after_s, sign, webhook_request
from tests.support.results import make_alert


def test_the_body_is_the_alert_and_nothing_else():
    body, headers = webhook_request(make_alert(), "", 1_800_000_000)
    document = json.loads(body)
    assert document["type"] == "alert"
    assert document["stream_id"] == "s1"
    assert {"name", "metadata"} & set(document) == set()
    assert headers["Content-Type"] == "application/json"
    assert headers["X-Emotion-Monitor-Timestamp"] == "1800000000"
    assert "X-Emotion-Monitor-Signature" not in headers


def test_the_signature_covers_time_and_body():
    body, headers = webhook_request(make_alert(), "a secret", 1_800_000_000)
    signature = headers["X-Emotion-Monitor-Signature"]
    assert signature == sign(body, "a secret", 1_800_000_000)
    assert signature.startswith("sha256=")
    assert len(signature) == len("sha256=") + 64
    others = {
        sign(body + b" ", "a secret", 1_800_000_000),
        sign(body, "another secret", 1_800_000_000),
        sign(body, "a secret", 1_800_000_001),
    }
    assert signature not in others
    assert len(others) == 3


def test_a_known_signature():
    """As ``printf '1.{}' | openssl dgst -sha256 -hmac key`` prints it."""
    expected = "sha256=1ba6b8171186efc613e8bcc0cbdab2748f24984d7c5a84faa2637afa0e40d224"
    assert sign(b"{}", "key", 1) == expected


def test_a_repetition_can_be_told():
    _, first = webhook_request(make_alert(), "", 1)
    _, second = webhook_request(make_alert(), "", 2)
    _, cleared = webhook_request(make_alert("cleared"), "", 2)
    name = "X-Emotion-Monitor-Delivery"
    assert first[name] == second[name] != cleared[name]


@pytest.mark.parametrize("status", [408, 429, 500, 503, 599])
def test_a_call_is_repeated_that_may_be_answered_otherwise(status: int):
    assert is_worth_retrying(status)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 410])
def test_a_call_is_not_repeated_that_is_answered_for_good(status: int):
    assert not is_worth_retrying(status)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("20", 20.0),
        ("86400", 60.0),
        ("", None),
        ("-1", None),
        ("Fri, 07 Nov 2014 23:59:59 GMT", None),
    ],
)
def test_a_receiver_may_ask_for_a_longer_pause_within_reason(header: str, seconds: float | None):
    assert retry_after_s(header) == seconds
