"""Encoded audio from a pipe to a real server, which decodes it."""

from __future__ import annotations

import os
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection

from mic_client import StdinSource, StreamClient, connection, stream_client
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import Backoff
from stream_server.wire.messages import Ready
from stream_server.wire.results import Point
from tests.stream_server.streams.timelines import tiles
from tests.support.live_lab import level, live_lab, stream
from tests.support.media_files import live_messages

pytestmark = pytest.mark.needs("av")


async def test_a_lost_connection_costs_encoded_audio_nothing(monkeypatch: pytest.MonkeyPatch):
    (data,) = live_messages("webm", level(6, 0.3)[:, None])
    connections: list[ClientConnection] = []

    async def open_connection(*arguments: Any, **options: Any) -> ClientConnection:
        connections.append(await opened(*arguments, **options))
        return connections[-1]

    opened = connection.open_connection
    monkeypatch.setattr(stream_client, "open_connection", open_connection)
    read, write = os.pipe()
    async with live_lab() as lab:
        whole = await stream(lab, [data], encoding="webm", sample_rate=16_000, live=False)
        source = StdinSource(AudioFormat.told("webm", None, 1), descriptor=read)
        client = StreamClient(source, lab.url)
        client._backoff = Backoff(0.01, 0.01)
        seen: list[Any] = []
        os.write(write, data[: len(data) // 2])
        async for event in client:
            if isinstance(event, Point) and len(connections) == 1 and write >= 0:
                connections[0].transport.abort()
                os.write(write, data[len(data) // 2 :])
                os.close(write)
                write = -1
            seen.append(event)
    os.close(read)
    assert [event.resumed for event in seen if isinstance(event, Ready)] == [False, True]
    assert client.summary is not None and client.summary.reason == "stopped"
    assert tiles(seen) == tiles(whole)
