"""What the settings refuse."""

from __future__ import annotations

from typing import Any

import pytest

from ser_engine.errors import ConfigError
from stream_server.platforms.siprec import SiprecConfig


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"port": 70_000}, "port 70000"),
        ({"allow": ("sbc.example.net",)}, "'sbc.example.net' in telephony.siprec.allow"),
        ({"team": "A Team"}, "telephony.siprec.team 'A Team'"),
        ({"address": "monitor.example.org"}, "expected an IP address"),
        ({"rtp_ports": (30_001, 30_001)}, "the first below the last"),
        ({"rtp_ports": (80, 100)}, "from 1024"),
        ({"tls_port": 5061, "tls_key": "key.pem"}, "without a certificate"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: dict[str, Any], problem: str):
    with pytest.raises(ConfigError, match=problem):
        SiprecConfig(**settings)


def test_it_is_off_by_default():
    assert SiprecConfig().port == -1
