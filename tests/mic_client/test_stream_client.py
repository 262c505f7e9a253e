from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import numpy as np
import numpy.typing as npt
import pytest

from mic_client.errors import (
    AccessError,
    BusyError,
    ClientError,
    ConnectionFailedError,
    DeviceError,
    RefusedError,
    StreamEndedError,
)
from mic_client.sources import MAX_SPEED, ArraySource, Chunk, Lost, SourceItem
from mic_client.stream_client import ClientEvent, ConnectionLost, StreamClient, StreamOptions
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode
from stream_server.wire.messages import ChannelSpec, Error, Ready
from stream_server.wire.results import Flushed, Marked, Point, Summary
from tests.support.fake_stream_server import FakeStreamServer, Refusal, fingerprint
from tests.support.virtual_time import current_loop, virtual_time

RATE_HZ = 16_000
SECOND_BYTES = 2 * RATE_HZ


FloatArray = npt.NDArray[np.float32]


def noise(duration_s: float) -> FloatArray:
    rng = np.random.default_rng(1)
    return rng.uniform(-0.5, 0.5, round(duration_s * RATE_HZ)).astype(np.float32)


def pcm(samples: FloatArray) -> bytes:
    return bytes(np.rint(samples * 32_767).astype("<i2").tobytes())


class LiveSource:
    """A microphone whose audio a test pushes."""

    is_live = True
    is_real_time = True

    def __init__(self) -> None:
        self.format = AudioFormat("pcm_s16le", RATE_HZ, 1)
        self.items: asyncio.Queue[SourceItem | Exception | None] = asyncio.Queue()
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[SourceItem]:
        while (item := await self.items.get()) is not None:
            if isinstance(item, Exception):
                raise item
            yield item

    async def aclose(self) -> None:
        self.is_closed = True


def make_client(
    server: FakeStreamServer, source: ArraySource | LiveSource, options: StreamOptions | None = None
) -> StreamClient:
    return StreamClient(source, server.url, options, rng=random.Random(0))


async def run(client: StreamClient) -> list[ClientEvent]:
    async with client:
        return [message async for message in client]


@virtual_time
async def test_a_stream_from_start_to_summary():
    options = StreamOptions(
        channels=(ChannelSpec(role="driver", name="A"),),
        name="trip",
        metadata={"car": "7"},
        wants=frozenset({"points"}),
        token="a secret of more than 16",
    )
    async with FakeStreamServer().running() as server:
        client = make_client(server, ArraySource(noise(2.5), RATE_HZ), options)
        messages = await run(client)
    (stream,) = server.streams
    assert bytes(stream.audio) == pcm(noise(2.5))
    assert isinstance(messages[0], Ready)
    assert isinstance(messages[-1], Summary)
    assert client.summary is messages[-1]
    assert [each for each in messages if isinstance(each, Point)] == stream.points
    assert stream.spec.channels == options.channels
    assert (stream.spec.name, stream.spec.metadata) == ("trip", {"car": "7"})
    assert stream.spec.wants == {"points"}
    assert stream.spec.live
    assert server.headers[0]["Authorization"] == "Bearer a secret of more than 16"
    assert "Sec-WebSocket-Extensions" not in server.headers[0]


@virtual_time
async def test_audio_takes_the_time_it_takes():
    async with FakeStreamServer().running() as server:
        await run(make_client(server, ArraySource(noise(30), RATE_HZ)))
        assert current_loop().time() == pytest.approx(30, abs=0.5)
        started_s = current_loop().time()
        await run(make_client(server, ArraySource(noise(30), RATE_HZ, speed=MAX_SPEED)))
        assert current_loop().time() - started_s < 0.5


@virtual_time
async def test_lost_connections_lose_and_double_nothing():
    drops = [SECOND_BYTES * 3 // 2, 1, SECOND_BYTES * 2, SECOND_BYTES // 3]
    async with FakeStreamServer(drop_after=drops).running() as server:
        messages = await run(make_client(server, ArraySource(noise(10), RATE_HZ)))
    (stream,) = server.streams
    audio = pcm(noise(10))
    assert bytes(stream.audio) == audio
    points = [each for each in messages if isinstance(each, Point)]
    assert [point.start_s for point in points] == list(range(10))
    seconds = [audio[each * SECOND_BYTES :][:SECOND_BYTES] for each in range(10)]
    assert [point.confidence for point in points] == [fingerprint(each) for each in seconds]
    assert server.num_connections == 5
    assert [each.resumed for each in messages if isinstance(each, Ready)] == [False] + [True] * 4
    assert sum(isinstance(each, ConnectionLost) for each in messages) == 4


@virtual_time
async def test_faster_than_real_time_resumes_too():
    async with FakeStreamServer(drop_after=[SECOND_BYTES * 20]).running() as server:
        source = ArraySource(noise(60), RATE_HZ, speed=MAX_SPEED)
        messages = await run(make_client(server, source))
    assert bytes(server.streams[0].audio) == pcm(noise(60))
    points = [each for each in messages if isinstance(each, Point)]
    assert [point.start_s for point in points] == list(range(60))


@virtual_time
async def test_a_file_waits_while_there_is_no_server():
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
    first, second = FakeStreamServer(drop_after=[SECOND_BYTES]), FakeStreamServer()
    source = ArraySource(noise(4), RATE_HZ)
    messages: list[ClientEvent] = []
    async with first.running(port) as server:
        client = make_client(server, source)
        async for message in client:
            messages.append(message)
            if isinstance(message, ConnectionLost):
                break
    second.streams = first.streams
    position = client._core._log.end_sample
    for _ in range(3):
        messages.append(await anext(aiter_of(client)))
    assert all(isinstance(each, ConnectionLost) for each in messages[-3:])
    assert client._core._log.end_sample - position <= RATE_HZ // 25
    async with second.running(port):
        messages += [message async for message in aiter_of(client)]
    assert bytes(second.streams[0].audio) == pcm(noise(4))
    delays = [each.retry_in_s for each in messages if isinstance(each, ConnectionLost)]
    assert all(0.25 * 2**n <= delay <= 0.5 * 2**n for n, delay in enumerate(delays))
    await client.aclose()


def aiter_of(client: StreamClient) -> AsyncIterator[ClientEvent]:
    """Return the iteration that has begun."""
    assert client._messages is not None
    return client._messages


@virtual_time
async def test_a_microphone_goes_on_while_the_connection_is_down():
    source = LiveSource()
    audio = pcm(noise(6))
    async with FakeStreamServer(drop_after=[SECOND_BYTES]).running() as server:
        client = make_client(server, source)
        messages = []
        source.items.put_nowait(Chunk(audio[:SECOND_BYTES]))
        async with client:
            async for message in client:
                messages.append(message)
                if isinstance(message, ConnectionLost):
                    for start in range(SECOND_BYTES, len(audio), 640):
                        source.items.put_nowait(Chunk(audio[start : start + 640]))
                    source.items.put_nowait(None)
    assert bytes(server.streams[0].audio) == audio
    assert [each.start_s for each in messages if isinstance(each, Point)] == list(range(6))
    assert source.is_closed


@virtual_time
async def test_more_than_is_kept_becomes_a_gap_of_the_right_length():
    source = LiveSource()
    second = pcm(noise(1))
    async with FakeStreamServer(drop_after=[SECOND_BYTES]).running() as server:
        source.items.put_nowait(Chunk(second))
        async with make_client(server, source) as client:
            async for message in client:
                if isinstance(message, ConnectionLost):
                    for start in [*range(0, SECOND_BYTES, 1280)] * 39:
                        source.items.put_nowait(Chunk(second[start : start + 1280]))
                    source.items.put_nowait(None)
    (stream,) = server.streams
    assert len(stream.audio) == 40 * SECOND_BYTES
    # The oldest goes, chunk by chunk, to make room for the newest and for 'stop'.
    assert 10 * RATE_HZ <= stream.lost_samples <= 10 * RATE_HZ + 640


@virtual_time
async def test_what_a_source_lost_is_told():
    source = LiveSource()
    for item in (Chunk(pcm(noise(0.5))), Lost(RATE_HZ), Chunk(pcm(noise(0.5))), None):
        source.items.put_nowait(item)
    async with FakeStreamServer().running() as server:
        await run(make_client(server, source))
    (stream,) = server.streams
    assert stream.discarded_samples == RATE_HZ
    assert len(stream.audio) == 2 * SECOND_BYTES


@virtual_time
async def test_a_source_that_fails_ends_the_stream_in_good_order():
    source = LiveSource()
    source.items.put_nowait(Chunk(pcm(noise(1))))
    source.items.put_nowait(DeviceError("USB: it went away"))
    messages = []
    async with FakeStreamServer().running() as server:
        with pytest.raises(DeviceError, match="went away"):
            async for message in make_client(server, source):
                messages.append(message)
    assert server.streams[0].is_stopped
    assert isinstance(messages[-1], Summary)


@virtual_time
async def test_stop_ends_the_audio_and_gives_the_rest():
    source = LiveSource()
    async with FakeStreamServer().running() as server:
        client = make_client(server, source)
        source.items.put_nowait(Chunk(pcm(noise(1))))
        messages = []
        async for message in client:
            messages.append(message)
            if isinstance(message, Point):
                client.stop()
    assert isinstance(messages[-1], Summary)
    assert source.is_closed


@virtual_time
async def test_stop_before_anything_began():
    async with FakeStreamServer().running() as server:
        client = make_client(server, LiveSource())
        client.stop()
        assert isinstance((await run(client))[-1], Summary)


@virtual_time
async def test_marks_and_flushes_come_back():
    source = LiveSource()
    source.items.put_nowait(Chunk(pcm(noise(1))))
    async with FakeStreamServer().running() as server:
        client = make_client(server, source)
        messages = []
        async for message in client:
            messages.append(message)
            if isinstance(message, Point):
                client.mark("here")
                client.flush()
                source.items.put_nowait(None)
    (marked,) = [each for each in messages if isinstance(each, Marked)]
    assert (marked.name, marked.at_s) == ("here", 1.0)
    assert any(isinstance(each, Flushed) for each in messages)


@virtual_time
async def test_silence_of_the_source_is_kept_alive():
    source = LiveSource()
    async with FakeStreamServer().running() as server:
        current_loop().call_later(35, source.items.put_nowait, None)
        await run(make_client(server, source))
    assert server.keep_alives == 3


@virtual_time
async def test_a_slow_server_slows_a_file_down():
    async with FakeStreamServer().running() as server:
        server.gate.clear()
        client = make_client(server, ArraySource(noise(600), RATE_HZ, speed=MAX_SPEED))
        reading = asyncio.create_task(run(client))
        await server.connected.wait()
        await asyncio.sleep(5)
        waiting = client._core._log.end_sample
        assert waiting < 590 * RATE_HZ
        server.gate.set()
        await reading
    assert bytes(server.streams[0].audio) == pcm(noise(600))


@virtual_time
async def test_a_stream_the_server_gave_up_goes_on_as_a_new_one():
    server = FakeStreamServer(drop_after=[SECOND_BYTES * 5 // 2], forget_streams=True)
    async with server.running():
        client = make_client(server, ArraySource(noise(4), RATE_HZ))
        messages = await run(client)
    assert [each.resumed for each in messages if isinstance(each, Ready)] == [False, False]
    start = round(client.stream_start_s * RATE_HZ) * 2
    assert bytes(server.streams[1].audio) == pcm(noise(4))[start:]
    assert start <= SECOND_BYTES * 5 // 2


@virtual_time
@pytest.mark.parametrize("speed", [1.0, MAX_SPEED])
async def test_a_server_that_is_restarted_costs_nothing(speed: float):
    server = FakeStreamServer(stops_after=[SECOND_BYTES * 5 // 2, SECOND_BYTES])
    async with server.running():
        client = make_client(server, ArraySource(noise(9.5), RATE_HZ, speed=speed))
        messages = await run(client)
    audio = b"".join(bytes(each.audio) for each in server.streams)
    assert audio == pcm(noise(9.5))
    reasons = [each.reason for each in messages if isinstance(each, Summary)]
    assert reasons == ["server_stopped", "server_stopped", "stopped"]
    assert client.summary is messages[-1]
    lengths = [len(each.audio) for each in server.streams]
    assert round(client.stream_start_s * SECOND_BYTES) == lengths[0] + lengths[1]


@virtual_time
async def test_without_resume_a_server_that_stops_is_an_error():
    async with FakeStreamServer(stops_after=[SECOND_BYTES]).running() as server:
        client = make_client(server, ArraySource(noise(3), RATE_HZ), StreamOptions(resume=False))
        with pytest.raises(StreamEndedError) as caught:
            await run(client)
    assert caught.value.code == "shutting_down"


@virtual_time
@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (HTTPStatus.UNAUTHORIZED, "unauthorized", AccessError),
        (HTTPStatus.FORBIDDEN, "forbidden_origin", AccessError),
        (HTTPStatus.NOT_FOUND, "unknown_path", RefusedError),
    ],
)
async def test_a_refusal_is_told(status: HTTPStatus, code: str, kind: type[ClientError]):
    body = {"code": code, "message": "got no token, expected one", "remedy": "Send a token."}
    async with FakeStreamServer(refusals=[Refusal(status, body)]).running() as server:
        with pytest.raises(kind, match=r"got no token, expected one\. Send a token\.") as caught:
            await run(make_client(server, ArraySource(noise(1), RATE_HZ)))
    assert (caught.value.code, caught.value.remedy) == (code, "Send a token.")
    assert server.num_connections == 0


@virtual_time
async def test_a_refusal_without_an_explanation_is_told_by_its_status():
    async with FakeStreamServer(refusals=[Refusal(HTTPStatus.BAD_REQUEST)]).running() as server:
        with pytest.raises(RefusedError, match="HTTP status 400"):
            await run(make_client(server, ArraySource(noise(1), RATE_HZ)))


@virtual_time
async def test_a_full_server_is_asked_again_when_it_said():
    full = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, {"code": "server_full", "retry_after_s": 7})
    async with FakeStreamServer(refusals=[full, full]).running() as server:
        messages = await run(make_client(server, ArraySource(noise(1), RATE_HZ)))
    lost = [each for each in messages if isinstance(each, ConnectionLost)]
    assert [each.attempt for each in lost] == [1, 2]
    assert all(7 < each.retry_in_s < 9 for each in lost)
    assert isinstance(messages[-1], Summary)


@virtual_time
async def test_a_server_that_stays_full_is_given_up():
    full = Refusal(HTTPStatus.SERVICE_UNAVAILABLE, {"code": "server_full", "retry_after_s": 7})
    async with FakeStreamServer(refusals=[full] * 100).running() as server:
        options = StreamOptions(reconnect_timeout_s=60)
        with pytest.raises(BusyError):
            await run(make_client(server, ArraySource(noise(1), RATE_HZ), options))
    assert 60 <= current_loop().time() < 80


@virtual_time
async def test_nobody_there_is_told_at_once():
    async with FakeStreamServer().running() as server:
        pass
    with pytest.raises(ConnectionFailedError, match=r"connection refused.*serve"):
        await run(make_client(server, ArraySource(noise(1), RATE_HZ)))
    assert current_loop().time() < 1


@virtual_time
async def test_without_resume_a_lost_connection_is_an_error():
    async with FakeStreamServer(drop_after=[SECOND_BYTES]).running() as server:
        client = make_client(server, ArraySource(noise(3), RATE_HZ), StreamOptions(resume=False))
        with pytest.raises(ConnectionFailedError, match="lost"):
            await run(client)
    assert server.num_connections == 1


@virtual_time
async def test_an_error_that_ends_the_stream_is_told():
    error = (SECOND_BYTES, ErrorCode.TOO_MANY_ERRORS)
    async with FakeStreamServer(errors_after=[error]).running() as server:
        client = make_client(server, ArraySource(noise(3), RATE_HZ))
        with pytest.raises(StreamEndedError, match=r"got this, expected that\. Correct"):
            await run(client)
    assert server.num_connections == 1


@virtual_time
async def test_an_error_worth_a_retry_is_no_end():
    error = (SECOND_BYTES, ErrorCode.SHUTTING_DOWN)
    async with FakeStreamServer(errors_after=[error]).running() as server:
        messages = await run(make_client(server, ArraySource(noise(3), RATE_HZ)))
    assert any(isinstance(each, Error) for each in messages)
    assert bytes(server.streams[0].audio) == pcm(noise(3))


@virtual_time
@pytest.mark.parametrize("answer", ["ready", "summary"])
async def test_an_answer_that_never_comes_ends_in_an_error(answer: str):
    server = FakeStreamServer(stay_silent=frozenset({answer}))
    options = StreamOptions(reconnect_timeout_s=5, stop_timeout_s=20)
    async with server.running():
        with pytest.raises(ConnectionFailedError, match=f"did not send '{answer}' in time"):
            await run(make_client(server, ArraySource(noise(1), RATE_HZ), options))
    assert current_loop().time() < 120


@virtual_time
async def test_leaving_closes_connection_and_source_at_once():
    source = LiveSource()
    async with FakeStreamServer().running() as server:
        async with make_client(server, source) as client:
            async for message in client:
                assert isinstance(message, Ready)
                break
        assert source.is_closed
        assert current_loop().time() < 1


def test_roles_must_fit_the_channels():
    with pytest.raises(ValueError, match="2 roles for a source of 1 channels"):
        StreamClient(
            ArraySource(noise(1), RATE_HZ), options=StreamOptions(channels=(ChannelSpec(),) * 2)
        )


@pytest.mark.parametrize(
    "url", ["http://localhost:8765", "localhost:8765", "ws://", "ws://a:99999", "ws://[1"]
)
def test_a_url_of_another_kind_is_refused(url: str):
    with pytest.raises(ValueError, match="must be ws://HOST:PORT"):
        StreamClient(ArraySource(noise(1), RATE_HZ), url)
