"""What the pages of telephone platforms show is what happens."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
import yaml

from stream_server.access import Access
from stream_server.config import ServerConfig
from stream_server.platforms import PLATFORMS, TelephonyConfig, make_routes
from stream_server.platforms.media_stream import MediaPlatform
from stream_server.platforms.route import Handshake
from stream_server.wire.dialect import AudioData, Dialect
from stream_server.wire.errors import ProtocolError
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


def dialects_of(name: str) -> Callable[[], Dialect]:
    config = ServerConfig()
    access = Access(config.access, config.listen)
    route = make_routes(config.telephony, access, lambda _: None)[f"/{name}"]
    here = Handshake(f"/{name}", f"/{name}", (), {"host": "localhost"}, "127.0.0.1")
    return lambda: route.admit(here).dialect


@EVERY
def test_the_transcript_is_understood(name: str):
    (transcript,) = blocks(name, "transcript")
    dialect = dialects_of(name)()
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


ODD: tuple[Any, ...] = (None, True, -1, 1e300, "x", [1], {"a": 1})


@EVERY
def test_any_field_may_be_missing_or_odd(name: str):
    """Whatever one field of the transcript holds, its message is understood or refused."""
    (transcript,) = blocks(name, "transcript")
    said = [line.removeprefix("→ ") for line in transcript.splitlines()]
    messages: list[str | bytes] = [
        bytes(int(audio[1])) if (audio := re.search(r"audio, (\d+) bytes", each)) else each
        for each in said
        if each != "[close 1000]"
    ]
    make_dialect = dialects_of(name)
    for at, message in enumerate(messages):
        for changed in odd_ones(message):
            dialect = make_dialect()
            outcomes = [outcome(dialect, each) for each in (*messages[:at], changed)]
            # Nothing of before counts against it, and the same again is no other matter.
            assert outcomes[:at] == ["understood"] * at
            for each in (changed, *messages[at + 1 :]):
                outcome(dialect, each)


def odd_ones(message: str | bytes) -> Iterator[str | bytes]:
    """Yield a message with each of its fields left out, and with other things in its place."""
    if isinstance(message, bytes):
        yield from (message[:-1], b"")
        return
    yield from (message[:-1], message.encode(), "[]", "")
    for path in paths_in(json.loads(message)):
        for value in (*ODD, ODD):
            other = json.loads(message)
            place = other
            for key in path[:-1]:
                place = place[key]
            if value is ODD:
                del place[path[-1]]
            else:
                place[path[-1]] = value
            yield json.dumps(other)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    for key, each in inner:
        yield (*path, key)
        yield from paths_in(each, (*path, key))


def outcome(dialect: Dialect, message: str | bytes) -> str:
    try:
        dialect.receive(message)
    except ProtocolError as error:
        return error.code.value
    return "understood"


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
