"""What docs/how-to/alerts.md shows is what happens."""

from __future__ import annotations

import re
import time
from pathlib import Path

import msgspec
import pytest

from emotion_monitor.commands.alerts import read_rules
from stream_server.alerts.actions import webhook_request
from stream_server.wire.results import Alert
from tests.requirements import REPOSITORY
from tests.support.results import make_alert

PAGE = (REPOSITORY / "docs" / "how-to" / "alerts.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found, f"docs/how-to/alerts.md shows no {language}"
    return found.group(1)


def test_the_rule_is_one(tmp_path: Path):
    (tmp_path / "rules.yaml").write_text(block("yaml"), encoding="utf-8")
    (rule,) = read_rules(tmp_path / "rules.yaml")
    assert rule.name == "customer stays angry"


def test_the_alert_is_one():
    alert = msgspec.json.decode(block("json"), type=Alert)
    assert alert.at_s == alert.at_sample / 16_000
    assert alert.since_s == alert.since_sample / 16_000


@pytest.mark.parametrize(
    ("secret", "age_s", "tampered", "genuine"),
    [
        ("a secret", 0, False, True),
        ("a secret", 200, False, True),
        ("a secret", 400, False, False),
        ("a secret", 0, True, False),
        ("another secret", 0, False, False),
    ],
)
def test_the_signature_is_checked_as_shown(secret: str, age_s: int, tampered: bool, genuine: bool):
    page: dict[str, object] = {}
    exec(block("python"), page)
    body, headers = webhook_request(make_alert(), secret, int(time.time()) - age_s)
    if tampered:
        body = body.replace(b"raised", b"cleared")
    check = page["is_genuine"]
    assert callable(check)
    assert check(body, headers, "a secret") is genuine


def test_an_unsigned_call_is_not_genuine():
    page: dict[str, object] = {}
    exec(block("python"), page)
    check = page["is_genuine"]
    assert callable(check)
    body, headers = webhook_request(make_alert(), "", int(time.time()))
    assert check(body, headers, "a secret") is False
    assert check(body, {}, "a secret") is False
