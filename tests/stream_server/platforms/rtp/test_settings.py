"""Settings of plain RTP, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest

from ser_engine.errors import ConfigError
from stream_server.platforms.rtp import RtpConfig


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"formats": ("opus",)}, "expected a payload type"),
        ({"formats": ("18 G729/8000",)}, "G729"),
        ({"call_ports": (40_001, 40_009)}, "the first even"),
        ({"call_ports": (40_000, 50_000)}, "2 to 1999 above"),
        ({"call_ports": (40_000, 40_010), "port": 40_004}, "expected one outside"),
        ({"allow": ("pbx",)}, "expected an address or network"),
        ({"team": "A B"}, "expected a name"),
        ({"end_after_s": 0.1}, "end_after_s"),
    ],
)
def test_what_cannot_work_is_refused(fields: dict[str, Any], problem: str):
    with pytest.raises(ConfigError, match=problem):
        RtpConfig(**fields)


def test_formats_of_asterisk_are_known():
    codecs = RtpConfig().codecs
    assert {number: each.name for number, each in codecs.items()} == {
        118: "L16",
        107: "OPUS",
        101: "TELEPHONE-EVENT",
    }
