"""What the pages of telephone platforms show is what happens."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from typing import Any

import pytest
import yaml

from stream_server.access import Access
from stream_server.config import ServerConfig
from stream_server.platforms import PLATFORMS, TelephonyConfig, make_routes
from stream_server.platforms.media_stream import MediaPlatform
from stream_server.platforms.route import Handshake
from stream_server.wire.dialect import AudioData, Dialect
from stream_server.wire.messages import Mark, Stop
from stream_server.wire.start import StreamSpec
from tests.requirements import REPOSITORY
from tests.support.platform_calls import TABLES


def page(name: str) -> str:
    folder = REPOSITORY / "stream_server" / "platforms" / name
    return (folder / "README.md").read_text(encoding="utf-8")


WITH_TRANSCRIPT = [name for name in PLATFORMS if "```transcript" in page(name)]
EVERY = pytest.mark.parametrize("name", WITH_TRANSCRIPT)


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page(name), re.DOTALL | re.MULTILINE)


def dialect_of(name: str) -> Dialect:
    config = ServerConfig()
    access = Access(config.access, config.listen)
    route = make_routes(config.telephony, access, lambda _: None)[f"/{name}"]
    here = Handshake(f"/{name}", f"/{name}", (), {"host": "localhost"}, "127.0.0.1")
    return route.admit(here).dialect


@EVERY
def test_the_transcript_is_understood(name: str):
    (transcript,) = blocks(name, "transcript")
    dialect = dialect_of(name)
    heard: list[Any] = []
    for line in transcript.splitlines():
        assert line.startswith("→ ")
        said = line.removeprefix("→ ")
        if audio := re.fullmatch(r"\[20 ms of audio, (\d+) bytes\]", said):
            heard += dialect.receive(bytes(int(audio[1])))
        elif said != "[close 1000]":
            heard += dialect.receive(said)
    kinds = {type(each) for each in heard}
    assert isinstance(heard[0], StreamSpec) and AudioData in kinds
    assert heard[0].name
    assert heard[0].metadata.get("queue") == ("billing" if "billing" in transcript else None)
    assert (Stop in kinds) is ("[close 1000]" not in transcript)
    keys = [each for each in heard if isinstance(each, Mark) and each.name == "dtmf"]
    assert bool(keys) is ("dtmf" in transcript)


@EVERY
def test_examples_are_well_formed(name: str):
    for example in blocks(name, "json"):
        json.loads(example)
    for example in blocks(name, "xml"):
        document = xml.etree.ElementTree.fromstring(example)
        for stream in document.iter("Stream"):
            url = stream.get("url") or (stream.text or "").strip()
            assert url.startswith(f"wss://monitor.example.org/{name}")
    for example in blocks(name, "yaml"):
        TelephonyConfig(**yaml.safe_load(example)["stream_server"]["telephony"])


@EVERY
def test_what_is_kept_is_what_the_page_says(name: str):
    platform: MediaPlatform | None = TABLES.get(name)
    if platform is not None:
        for field in (platform.call_id, *platform.details):
            assert f"`{field}`" in page(name), field
        for encoding in platform.encodings.values():
            assert encoding.encoding in ("mulaw", "alaw", "pcm_s16le")
