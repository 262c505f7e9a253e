"""Deepgram's own client, unmodified, against the real server with the built-in model."""

from __future__ import annotations

import asyncio
import importlib
import warnings
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from websockets.asyncio.client import connect

from ser_engine.config import EngineConfig, ModelConfig
from stream_server.access import AccessConfig, ListenConfig
from stream_server.config import ServerConfig, StoreConfig
from stream_server.platforms import TelephonyConfig
from stream_server.server import Server
from stream_server.wire.results import Gap, Segment, Summary
from tests.conftest import SpeechClip
from tests.support.live_lab import chunks, pcm, receive_until, send, start
from tests.support.telephony_lab import (
    assert_same_timeline,
    load_call,
    native_timeline,
    published_timeline,
    telephony_lab,
)

pytestmark = [
    pytest.mark.needs("deepgram", "shared-data"),
    # The client still uses parts of websockets that are to go.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ENGINE = EngineConfig(model=ModelConfig(name="compact", offline=True))
KEY = "0123456789abcdef"
RATE = 16_000


@pytest.fixture
def sdk() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("deepgram.listen.v1.client")
        return importlib.import_module("deepgram")


@asynccontextmanager
async def serving(folder: Path, **groups: Any) -> AsyncIterator[Server]:
    config = ServerConfig(
        listen=ListenConfig("127.0.0.1", 0, 0),
        store=StoreConfig(url=f"sqlite:///{folder}/timelines.db"),
        **groups,
    )
    async with Server(ENGINE, config) as server:
        yield server


def client_options(sdk: Any, url: str, key: str = KEY) -> dict[str, Any]:
    """Return what points a client at another server: the one thing that has to be changed."""
    url = url.rstrip("/")
    environment = importlib.import_module("deepgram.environment").DeepgramClientEnvironment
    return {
        "api_key": key,
        "environment": environment(base=url, production=url, agent=url, agent_rest=url),
    }


def asked(**more: Any) -> dict[str, Any]:
    """Return what is asked for; as a recording, for on a busy machine live audio is given up."""
    options = {"additional_query_parameters": {"live": "false"}}
    return {
        "model": "nova-3",
        "encoding": "linear16",
        "sample_rate": RATE,
        "request_options": options,
        **more,
    }


@pytest.fixture
def speech(speech_clips: tuple[SpeechClip, ...]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Three actors with pauses in between, some 12 s."""
    pause = np.zeros(RATE, dtype=np.float32)
    return np.concatenate([part for clip in speech_clips[:3] for part in (clip.samples, pause)])


async def native(server: Server, data: bytes) -> list[Segment]:
    """Return the final segments that the native protocol tells of the same bytes."""
    async with connect(server.ingest_url, compression=None, proxy=None) as socket:
        await socket.send(start(live=False))
        for chunk in chunks(data, 6400):
            await socket.send(chunk)
        await send(socket, type="stop")
        seen = await receive_until(socket, Summary)
    return [m for m in seen if isinstance(m, Segment) and m.final]


def told(results: Iterable[Any]) -> list[tuple[Any, ...]]:
    """Return what the client understood of final results."""
    return [
        (
            m.channel_index[0],
            m.start,
            round(m.start + m.duration, 6),
            m.emotion["label"],
            m.channel.alternatives[0].confidence,
        )
        for m in results
        if m.type == "Results" and m.is_final
    ]


def expected(segments: Iterable[Segment]) -> list[tuple[Any, ...]]:
    return [(s.channel, s.start_s, s.end_s, s.label, s.confidence) for s in segments]


async def test_the_async_client(sdk: Any, tmp_path: Path, speech: Any):
    async with serving(tmp_path) as server:
        client = sdk.AsyncDeepgramClient(**client_options(sdk, server.ingest_url))
        seen: list[Any] = []
        async with client.listen.v1.connect(**asked(tag=["a", "b"])) as socket:

            async def read() -> None:
                async for message in socket:
                    seen.append(message)

            reader = asyncio.create_task(read())
            for chunk in chunks(pcm(speech), 6400):
                await socket.send_media(chunk)
            await socket.send_keep_alive()
            await socket.send_close_stream()
            await reader
        reference = await native(server, pcm(speech))
    assert len(reference) >= 3
    assert told(seen) == expected(reference)
    assert [type(m).__name__ for m in seen] == [
        *["ListenV1Results"] * len(reference),
        "ListenV1Metadata",
    ]
    posteriors = seen[0].emotion["posteriors"]
    assert sum(posteriors.values()) == pytest.approx(1.0, abs=1e-4)
    assert posteriors[seen[0].emotion["best"]] == seen[0].channel.alternatives[0].confidence
    assert seen[0].metadata.model_info.name == "compact"
    assert seen[-1].duration == pytest.approx(len(speech) / RATE)


async def test_the_client_with_callbacks_in_threads(sdk: Any, tmp_path: Path, speech: Any):
    async with serving(tmp_path) as server:
        options = client_options(sdk, server.ingest_url)
        seen = await asyncio.to_thread(listen_in_a_thread, sdk, options, pcm(speech))
        reference = await native(server, pcm(speech))
    assert [m for m in seen if isinstance(m, Exception)] == []
    assert told(seen) == expected(reference)
    assert seen[-1].type == "Metadata"
    kinds = [m.type for m in seen]
    assert kinds.index("SpeechStarted") < kinds.index("Results")
    assert "UtteranceEnd" in kinds
    interim = [m for m in seen if m.type == "Results" and not m.is_final]
    assert len(interim) > len(told(seen))
    assert {m.speech_final for m in interim} == {False}


def listen_in_a_thread(sdk: Any, options: dict[str, Any], data: bytes) -> list[Any]:
    events = importlib.import_module("deepgram.core.events").EventType
    seen: list[Any] = []
    more = asked(interim_results=True, vad_events=True, utterance_end_ms=500)
    with sdk.DeepgramClient(**options).listen.v1.connect(**more) as socket:
        socket.on(events.MESSAGE, seen.append)
        socket.on(events.ERROR, seen.append)
        listener = Thread(target=socket.start_listening)
        listener.start()
        for chunk in chunks(data, 6400):
            socket.send_media(chunk)
        socket.send_close_stream()
        listener.join()
    return seen


async def test_finalize(sdk: Any, tmp_path: Path, speech_clips: tuple[SpeechClip, ...]):
    async with serving(tmp_path) as server:
        client = sdk.AsyncDeepgramClient(**client_options(sdk, server.ingest_url))
        async with client.listen.v1.connect(**asked()) as socket:
            await socket.send_media(pcm(speech_clips[0].samples[:RATE]))
            await socket.send_finalize()
            while not (first := await socket.recv()).from_finalize:
                pass
            await socket.send_close_stream()
            rest = [message async for message in socket]
    assert first.is_final
    assert first.start + first.duration <= 1.0
    assert rest[-1].type == "Metadata"


async def test_a_telephone_call_of_two_channels(sdk: Any, shared_data: Path):
    call = load_call(shared_data)
    async with telephony_lab() as lab:
        reference = await native_timeline(lab, call)
        client = sdk.AsyncDeepgramClient(**client_options(sdk, lab.url))
        options = asked(encoding="mulaw", sample_rate=8000, channels=2, multichannel=True)
        options["request_options"]["additional_query_parameters"]["name"] = "call-7"
        async with client.listen.v1.connect(**options) as socket:
            for chunk in chunks(call.interleaved, 333):
                await socket.send_media(chunk)
            await socket.send_close_stream()
            seen = [message async for message in socket]
        assert_same_timeline(reference, await published_timeline(lab, "call-7"))
    assert sorted(told(seen)) == sorted(expected(reference.segments))
    for result in seen[:-1]:
        tiles = reference.tiles(result.channel_index[0])
        end_s = round(result.start + result.duration, 6)
        later = [tile for tile in tiles if tile.start_s == end_s]
        assert result.speech_final == (not later or isinstance(later[0], Gap))
    assert {m.channel_index[0]: m.channel.role for m in seen[:-1]} == {0: "customer", 1: "agent"}
    assert {m.emotion["narrow_band"] for m in seen[:-1]} == {True}


async def test_our_extras_reach_the_server(sdk: Any, tmp_path: Path):
    async with serving(tmp_path) as server:
        client = sdk.AsyncDeepgramClient(**client_options(sdk, server.ingest_url))
        options = asked()
        options["request_options"]["additional_query_parameters"] |= {
            "role": "driver",
            "gaps": "true",
        }
        async with client.listen.v1.connect(**options) as socket:
            await socket.send_media(bytes(2 * RATE))
            await socket.send_close_stream()
            gap, metadata = [message async for message in socket]
    assert (gap.gap, gap.emotion, gap.channel.role) == ({"reason": "silence"}, None, "driver")
    assert metadata.type == "Metadata"


async def test_a_wrong_key(sdk: Any, tmp_path: Path):
    groups = {
        "access": AccessConfig(tokens={"us": KEY}, refusal_delay_ms=0),
        "telephony": TelephonyConfig(public_url="ws://127.0.0.1"),
    }
    async with serving(tmp_path, **groups) as server:
        wrong = client_options(sdk, server.ingest_url, key="a key of somebody else")
        with pytest.raises(sdk.core.api_error.ApiError) as refused:
            async with sdk.AsyncDeepgramClient(**wrong).listen.v1.connect(**asked()):
                pass
        assert refused.value.status_code == 401

        def in_a_thread() -> None:
            with sdk.DeepgramClient(**wrong).listen.v1.connect(**asked()):
                pass

        # Of this exception's text the asynchronous client keeps nothing.
        with pytest.raises(Exception, match="401") as rejected:
            await asyncio.to_thread(in_a_thread)
        response: Any = getattr(rejected.value, "response", None)
        assert b"got an unknown access token" in response.body
        async with sdk.AsyncDeepgramClient(
            **client_options(sdk, server.ingest_url)
        ).listen.v1.connect(**asked()) as socket:
            await socket.send_close_stream()
            assert (await socket.recv()).type == "Metadata"
