"""What the pages on Asterisk and FreeSWITCH show is what the code says."""

from __future__ import annotations

import re

from stream_server.platforms.asterisk import (
    FORMATS,
    QUERY_KEYS,
    ChanWebSocketDialect,
)
from stream_server.platforms.asterisk.audiosocket import AUDIO_RATES_HZ, FrameParser, FrameType
from stream_server.platforms.freeswitch import FreeSwitchDialect
from stream_server.wire.start import StreamSpec
from tests.requirements import REPOSITORY

ASTERISK = (REPOSITORY / "stream_server/platforms/asterisk/README.md").read_text(encoding="utf-8")
FREESWITCH = (REPOSITORY / "stream_server/platforms/freeswitch/README.md").read_text(
    encoding="utf-8"
)


def test_the_frames_shown_are_frames():
    lines = re.findall(r"^((?:[0-9a-f]{2} +)+)", ASTERISK, flags=re.MULTILINE)
    shown = [bytes.fromhex("".join(line.split())) for line in lines]
    assert len(shown) == 4
    # Of the audio only the first samples are shown.
    (frames,) = [FrameParser().receive(shown[0] + shown[2] + shown[3])]
    assert [frame.type for frame in frames] == [FrameType.UUID, FrameType.DTMF, FrameType.HANGUP]
    assert shown[1][:3] == bytes((FrameType.SLIN,)) + (320).to_bytes(2, "big")


def test_every_type_of_frame_is_explained():
    for number in FrameType:
        if number not in AUDIO_RATES_HZ:
            assert f"| `{number:02x}` |" in ASTERISK
    assert "| `10` … `16` |" in ASTERISK
    assert "| `17`, `18` |" in ASTERISK


def test_the_starts_shown_begin_a_stream():
    starts = re.findall(r"^← (.*MEDIA_START.*)$", ASTERISK, flags=re.MULTILINE)
    assert len(starts) == 2
    for text in starts:
        (spec,) = ChanWebSocketDialect("customer").receive(text)
        assert isinstance(spec, StreamSpec)
        assert (spec.format.encoding, spec.name) == ("mulaw", "1750000000.42")


def test_every_format_and_every_part_of_the_url_is_named():
    (listed,) = re.findall(r"^- Formats: (.*?)\. Others", ASTERISK, flags=re.MULTILINE | re.DOTALL)
    assert re.findall(r"`(\w+)`", listed) == list(FORMATS)
    for key in QUERY_KEYS:
        assert f"| `{key}` |" in ASTERISK


def test_the_commands_of_freeswitch_begin_the_streams_they_mean():
    commands = re.findall(
        r"^uuid_audio_(stream|fork) +<uuid> start (\S+) (\w+) (\d+)k (\{.*\})$",
        FREESWITCH,
        flags=re.MULTILINE,
    )
    assert len(commands) == 2
    for _, url, mix, khz, metadata in commands:
        pairs = [pair.split("=") for pair in url.partition("?")[2].split("&") if pair]
        (spec,) = FreeSwitchDialect(("customer", "agent"), dict(pairs)).receive(metadata)
        assert isinstance(spec, StreamSpec)
        assert mix == "stereo"
        assert spec.format.num_channels == 2
        assert spec.format.sample_rate_hz == int(khz) * 1000
        assert spec.name == "<uuid>"
