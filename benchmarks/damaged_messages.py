"""Looks for a message that a parser does not take: ``python -m benchmarks.damaged_messages``.

Connections of every protocol, native and of platforms, are sent their own messages, half of them
damaged: bytes changed, JSON values replaced, left out and repeated, messages out of order, audio as
text and text as audio. What is asked for is given to a stream. Anything but an answer or a
ProtocolError is printed with its seed, and the run goes on.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from stream_server.platforms.asterisk import ChanWebSocketDialect
from stream_server.platforms.asterisk.audiosocket import (
    AudioSocketLeg,
    Frame,
    encode_audio,
    encode_frame,
)
from stream_server.platforms.audiohook.dialect import AudioHookDialect
from stream_server.platforms.deepgram.dialect import DeepgramDialect
from stream_server.platforms.deepgram.query import ListenQuery
from stream_server.platforms.freeswitch import FreeSwitchDialect
from stream_server.platforms.media_stream import MediaStreamDialect
from stream_server.platforms.vonage import VonageDialect
from stream_server.wire.dialect import HoldsAudio
from stream_server.wire.errors import ProtocolError
from stream_server.wire.native import NativeDialect
from stream_server.wire.native_client import NativeClient
from tests.requirements import REPOSITORY
from tests.support.platform_calls import PLATFORMS, TABLES
from tests.support.protocol_lab import SPEC, server_messages

Message = str | bytes
Receive = Callable[[Message], object]

ROLES = ("customer", "agent")
_MESSAGES_OF_A_CONNECTION = 30
_AUDIO = bytes(range(256)) * 2
_ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    1.5,
    1e308,
    2**31,
    2**53 + 1,
    10**30,
    "",
    "0",
    "-1",
    "1e3",
    "NaN",
    "\x00",
    "\ud800",
    "é" * 300,
    "x" * 70_000,
    [],
    {},
    [[]],
    {"type": "start"},
)
"""What is put in the place of a value."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A protocol: how a connection begins, and messages in their usual order."""

    connect: Callable[[random.Random], Receive]
    messages: Sequence[Message]


def kinds() -> dict[str, Kind]:
    """Return the protocols by name."""
    start = {"type": "start", "encoding": "pcm_s16le", "sample_rate": 8000, "name": "call"}
    controls: list[dict[str, Any]] = [
        {"type": "keepalive"},
        {"type": "flush"},
        {"type": "pause"},
        {"type": "resume", "paused_samples": 4000},
        {"type": "discarded", "samples": 1600},
        {"type": "mark", "name": "a question"},
        {"type": "stop"},
    ]
    full = {
        **start,
        "channels": [{"role": "customer", "name": "Ann"}, {"role": "agent"}],
        "metadata": {"queue": "sales"},
        "wants": ["points", "frames"],
        "live": False,
        "version": 1,
        "token": "secret",
        "resume": {"stream_id": "s", "token": "t", "next_sample": 0},
    }
    found = {
        "native": Kind(
            lambda rng: _receive(NativeDialect()),
            _texts(full, start, _AUDIO, *controls[:5], _AUDIO, *controls[5:]),
        ),
        "native query": Kind(lambda rng: _receive(NativeDialect(_query(rng))), [_AUDIO] * 3),
        "native client": Kind(_client, [_plain(each) for each in server_messages()]),
        "deepgram": Kind(
            lambda rng: _receive(DeepgramDialect(_listen(rng), ROLES, "r", 1.0)),
            _texts(_AUDIO, *({"type": name} for name in _DEEPGRAM), b"RIFF\0\0\0\0WAVEfmt "),
        ),
        "vonage": Kind(
            lambda rng: _receive(VonageDialect(roles=ROLES)),
            _texts(
                {"event": "websocket:connected", "content-type": "audio/l16;rate=16000", "age": 4},
                _AUDIO,
                {"event": "websocket:dtmf", "digit": "5", "duration": 260},
                _AUDIO,
            ),
        ),
        "freeswitch": Kind(
            lambda rng: _receive(FreeSwitchDialect(ROLES, {"rate": "8k", "mix": "stereo"})),
            _texts({"callSid": "f", "sampleRate": 8000, "mixType": "stereo"}, _AUDIO, *controls),
        ),
        "chan_websocket": Kind(
            lambda rng: _receive(ChanWebSocketDialect("customer")),
            [
                "MEDIA_START connection_id:m channel:W/m channel_id:1.4 format:ulaw ptime:20",
                *_texts({"event": "MEDIA_START", "channel": "W", "format": "ulaw", "ptime": 20}),
                _AUDIO,
                "DTMF_END digit:5 channel_id:1.4",
                *_texts({"event": "DTMF_END", "digit": "5"}),
                "MEDIA_XOFF",
            ],
        ),
        "audiosocket": Kind(
            lambda rng: _bytes_of(AudioSocketLeg()),
            [
                encode_frame(Frame(1, bytes(16))),
                encode_audio(_AUDIO),
                encode_frame(Frame(3, b"5")),
                encode_audio(_AUDIO, 16_000),
                encode_frame(Frame(0xFF, b"\x01")),
            ],
        ),
        "audiohook": Kind(lambda rng: _receive(AudioHookDialect(roles=ROLES)), _audiohook()),
    }
    for name, table in TABLES.items():
        call = PLATFORMS[name]()
        tracks = {track: _AUDIO for track in table.tracks[:2]}
        keys = json.dumps(call.dtmf("5"))
        found[name] = Kind(
            lambda rng, table=table: _receive(MediaStreamDialect(table, roles=ROLES)),  # type: ignore[misc]
            [*call.call(tracks, parameters={"role": "x"}), keys],
        )
    return found


_DEEPGRAM = ("KeepAlive", "Finalize", "Configure", "CloseStream")


def _texts(*messages: dict[str, Any] | bytes) -> list[Message]:
    return [each if isinstance(each, bytes) else json.dumps(each) for each in messages]


def _plain(message: Any) -> str:
    import msgspec

    return msgspec.json.encode(message).decode()


def _audiohook() -> list[Message]:
    lines = (REPOSITORY / "stream_server/platforms/audiohook/transcripts/call.jsonl").read_text()
    found: list[Message] = []
    for line in lines.splitlines():
        ((kind, value),) = json.loads(line).items()
        if kind in ("client", "audio_bytes"):
            found.append(bytes(value) if kind == "audio_bytes" else json.dumps(value))
    return found


def _receive(dialect: Any) -> Receive:
    def receive(message: Message) -> None:
        dialect.receive(message)
        if isinstance(dialect, HoldsAudio) and len(message) % 7 == 0:
            dialect.release()

    return receive


def _bytes_of(leg: AudioSocketLeg) -> Receive:
    return lambda message: leg.receive(message.encode() if isinstance(message, str) else message)


def _client(rng: random.Random) -> Receive:
    client = NativeClient(SPEC)
    client.connect()
    return client.receive


def _query(rng: random.Random) -> dict[str, str]:
    values = ("pcm_s16le", "mulaw", "8000", "2", "a,b", "false", "-1", "", "é", "9" * 30, "\x00")
    names = ("encoding", "sample_rate", "channels", "roles", "names", "wants", "live", "meta.x")
    return {rng.choice(names): rng.choice(values) for _ in range(rng.randint(1, 4))}


def _listen(rng: random.Random) -> ListenQuery:
    usual = "encoding=linear16&sample_rate=8000&channels=1"
    odd = "&".join(
        f"{rng.choice(('encoding', 'model', 'tag', 'extra', 'roles', 'multichannel', 'live'))}"
        f"={rng.choice(('linear16', 'true', 'a:b', '%00', '%ff', '', '9' * 20))}"
        for _ in range(rng.randint(0, 2))
    )
    return ListenQuery.of(parse_qsl(f"{usual}&{odd}" if odd else usual, keep_blank_values=True))


def damaged(message: Message, rng: random.Random) -> Message:
    """Return a message with one kind of damage."""
    if isinstance(message, str) and message[:1] == "{" and rng.random() < 0.6:
        return json.dumps(_replaced(json.loads(message), rng))
    data = bytearray(message.encode() if isinstance(message, str) else message)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0 if at < len(data):
                data[at] ^= 1 << rng.randrange(8)
            case 1:
                data[at : at + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
            case 2:
                del data[at : at + rng.randrange(40)]
            case 3:
                data[at:at] = data[max(at - 40, 0) : at]
            case _:
                data[at:] = b""
    is_text = isinstance(message, str) != (rng.random() < 0.1)
    return data.decode("utf-8", "replace") if is_text else bytes(data)


def _replaced(value: Any, rng: random.Random) -> Any:
    """Return JSON with one value in it replaced, left out or renamed."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        name = rng.choice(list(value))
        changed = dict(value)
        match rng.randrange(8):
            case 0:
                del changed[name]
            case 1:
                changed[rng.choice(("", "type", "event", name.upper()))] = changed.pop(name)
            case _:
                changed[name] = _replaced(value[name], rng)
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return [*value[:at], _replaced(value[at], rng), *value[at + rng.randrange(2) :]]
    return rng.choice(_ODD)


def connection(kind: Kind, seed: str) -> Iterator[Message]:
    """Yield what one connection is sent."""
    rng = random.Random(seed)
    at = 0
    for _ in range(rng.randint(1, 2 * _MESSAGES_OF_A_CONNECTION)):
        if rng.random() < 0.2:
            at = rng.randrange(len(kind.messages))
        message = kind.messages[at % len(kind.messages)]
        at += 1
        yield damaged(message, rng) if rng.random() < 0.5 else message


def run(kind: Kind, seed: str, outcomes: collections.Counter[str]) -> Exception | None:
    """Send one connection its messages; return what a parser should not have raised, if it did."""
    try:
        receive = kind.connect(random.Random(seed))
    except ProtocolError:
        outcomes["refused"] += 1
        return None
    except Exception as error:
        return error
    for message in connection(kind, seed):
        try:
            receive(message)
            outcomes["taken"] += 1
        except ProtocolError as error:
            outcomes["refused"] += 1
            if error.ends_stream:
                break
        except Exception as error:
            return error
    return None


def main() -> int:
    """Run it; return how many connections were not taken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--first-seed", type=int, default=0)
    given = parser.parse_args()
    outcomes: collections.Counter[str] = collections.Counter()
    failed: collections.Counter[str] = collections.Counter()
    by_name = kinds()
    number = given.first_seed
    while outcomes.total() < given.messages:
        for name, kind in by_name.items():
            error = run(kind, f"{name} {number}", outcomes)
            if error is not None:
                outcomes["not taken"] += 1
                failed[f"{name}: {type(error).__name__}: {str(error)[:200]}"] += 1
                if failed.total() <= 20:
                    print(f"seed {name} {number}: {type(error).__name__}: {error}", flush=True)
        number += 1
    print(", ".join(f"{count} {what}" for what, count in sorted(outcomes.items())))
    for what, count in failed.most_common(50):
        print(f"{count} times {what}")
    return failed.total()


if __name__ == "__main__":
    raise SystemExit(min(main(), 1))
