"""A stand-in of Kinesis Video Streams, and what Amazon Connect puts into it.

The Matroska is built as ``GetMedia`` sends Amazon Connect's: the elements, their order, the tags
behind the audio, the codec ``A_AAC`` in front of plain samples, and a Segment and Cluster of
unknown size are those of a published dump (nicolasneudeck.com, "Building Python Audio Consumers for
Amazon Connect Kinesis Media Streams").
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

CONTACT = "d111f871-5fe7-40b1-b5f7-6b67060de0c2"
ARN = "arn:aws:kinesisvideo:eu-west-2:111111111111:stream/calls-contact-1/1571360125131"
RATE_HZ = 8000
BLOCK_SAMPLES = 512
BLOCK_BYTES = 2 * BLOCK_SAMPLES
_BLOCK_MS = 64
_BLOCKS = 16
_BEGAN_MS = 1_726_677_688_724
_UNKNOWN = b"\x01" + b"\xff" * 7


def event(
    contact: str = CONTACT, *, after: str | None = "100", **parameters: str
) -> dict[str, Any]:
    """Return what a flow gives to a Lambda function, with nulls where Amazon has them."""
    audio = {"StreamARN": ARN, "StartTimestamp": "1571360125131", "StopTimestamp": None}
    return {
        "Name": "ContactFlowEvent",
        "Details": {
            "ContactData": {
                "Attributes": {"account": "secret"},
                "Channel": "VOICE",
                "ContactId": contact,
                "CustomerEndpoint": {"Address": "+15550100", "Type": "TELEPHONE_NUMBER"},
                "MediaStreams": {"Customer": {"Audio": {**audio, "StartFragmentNumber": after}}},
                "Queue": {"ARN": "arn:aws:connect:…", "Name": "Billing"},
            },
            "Parameters": parameters,
        },
    }


def element(kind: int, data: bytes, *, is_sized: bool = True) -> bytes:
    size = _UNKNOWN
    if is_sized:
        is_short = len(data) < 127
        size = bytes([0x80 | len(data)]) if is_short else (1 << 56 | len(data)).to_bytes(8, "big")
    return kind.to_bytes((kind.bit_length() + 7) // 8, "big") + size + data


def tags(*pairs: tuple[str, str]) -> bytes:
    found = b"".join(
        element(0x67C8, element(0x45A3, name.encode()) + element(0x4487, text.encode()))
        for name, text in pairs
    )
    return element(0x1254C367, element(0x7373, found))


def fragments(
    sides: Sequence[bytes],
    *,
    contact: str | None = CONTACT,
    first: int = 0,
    names: Sequence[str] = ("AUDIO_FROM_CUSTOMER", "AUDIO_TO_CUSTOMER"),
    is_tagged_first: bool = False,
    has_sizes: bool = False,
) -> list[bytes]:
    """Return the fragments of a contact: 64 ms a block and 16 blocks of each side.

    Args:
        sides: 16-bit samples of each track, whole blocks.
        contact: None: no fragment says whose it is.
        first: block that these begin with, on the clock of the stream.
        is_tagged_first: the tags of the contact come before the audio.
        has_sizes: sizes of Segment and Cluster are told.
    """
    made = []
    num_blocks = len(sides[0]) // BLOCK_BYTES
    for at in range(0, num_blocks, _BLOCKS):
        number = str(91_343_852_333_181_531 + first + at)
        ms = _BEGAN_MS + (first + at) * _BLOCK_MS
        cluster = element(0xE7, ms.to_bytes(8, "big")) + element(0xA7, b"\0")
        for offset in range(min(_BLOCKS, num_blocks - at)):
            for track, samples in enumerate(sides, start=1):
                begin = (at + offset) * BLOCK_BYTES
                head = bytes([0x80 | track]) + (offset * _BLOCK_MS).to_bytes(2, "big") + b"\x80"
                cluster += element(0xA3, head + samples[begin : begin + BLOCK_BYTES])
        entries = b"".join(
            element(
                0xAE,
                element(0xD7, bytes([track]))
                + element(0x73C5, bytes([track]))
                + element(0x83, b"\x02")
                + element(0x536E, name.encode())
                + element(0x86, b"A_AAC")
                + element(0x63A2, b"\x15\x88"),
            )
            for track, name in enumerate(names[: len(sides)], start=1)
        )
        whose = b"" if contact is None else tags(("ContactId", contact))
        more = tags(("MimeType", "audio/L16;rate=8000;channels=1;")) + tags(("Events", "[]"))
        body = (
            element(0x1549A966, element(0x2AD7B1, b"\x0f\x42\x40") + element(0x7BA9, b"Kinesis"))
            + element(0x1654AE6B, entries)
            + (whose if is_tagged_first else b"")
            + tags(
                ("AWS_KINESISVIDEO_FRAGMENT_NUMBER", number),
                ("AWS_KINESISVIDEO_PRODUCER_TIMESTAMP", f"{ms / 1000:.3f}"),
            )
            + element(0x1F43B675, cluster, is_sized=has_sizes)
            + (b"" if is_tagged_first else whose)
            + more
            + tags(
                ("AWS_KINESISVIDEO_MILLIS_BEHIND_NOW", "0"),
                ("AWS_KINESISVIDEO_CONTINUATION_TOKEN", number),
            )
        )
        head = element(0x1A45DFA3, element(0x4286, b"\1") + element(0x4282, b"matroska"))
        made.append(head + element(0x18538067, body, is_sized=has_sizes))
    return made


@dataclass
class FakeKinesis:
    """Answers GetDataEndpoint and GetMedia.

    Attributes:
        responses: of each GetMedia in turn: pieces of a body, a number of seconds to wait for, or
            the code of an error as a text. After the last one: nothing comes.
        asked: the StartSelector of each GetMedia.
    """

    responses: list[Iterable[bytes | float] | str] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    async def get_data_endpoint(self, request: web.Request) -> web.Response:
        assert json.loads(await request.text())["APIName"] == "GET_MEDIA"
        return web.json_response({"DataEndpoint": self.url})

    async def get_media(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"].startswith("AWS4-HMAC-SHA256 ")
        body = json.loads(await request.text())
        assert body["StreamARN"] == ARN
        self.asked.append(body["StartSelector"])
        said = self.responses.pop(0) if self.responses else ()
        if isinstance(said, str):
            return web.json_response(
                {"Message": "no"}, status=403, headers={"x-amzn-ErrorType": said}
            )
        response = web.StreamResponse(headers={"Content-Type": "video/webm"})
        response.enable_chunked_encoding()
        await response.prepare(request)
        for piece in said:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                await response.write(piece)
        return response


@asynccontextmanager
async def fake_kinesis() -> AsyncIterator[FakeKinesis]:
    fake = FakeKinesis()
    app = web.Application()
    app.router.add_post("/getDataEndpoint", fake.get_data_endpoint)
    app.router.add_post("/getMedia", fake.get_media)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
