"""Contacts from their announcement to their stream, with boto3 and a stand-in of Kinesis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import numpy as np
import pytest
import soxr

from stream_server.access import AccessConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.amazon_connect import AmazonConnectConfig
from stream_server.platforms.amazon_connect.server import PATH, AmazonConnectServer
from stream_server.streams.handshakes import Descriptors
from stream_server.streams.listeners import ListenerContext
from stream_server.wire.results import StreamClosed, StreamOpened
from tests.stream_server.streams.timelines import tiles, timeline
from tests.support.kinesis import (
    BLOCK_BYTES,
    CONTACT,
    FakeKinesis,
    event,
    fake_kinesis,
    fragments,
)
from tests.support.live_lab import Lab, level, live_lab, receive, receive_all, send, start, stream
from tests.support.siprec_lab import BOTH_ANALYSED

pytestmark = pytest.mark.needs("boto3")

TOKEN = "a token of the flow"


def at_8_khz(*parts: Any) -> bytes:
    samples = soxr.resample(np.concatenate(parts), 16_000, 8000)
    data: bytes = np.round(samples * 32_767).astype("<i2").tobytes()
    return data[: len(data) // BLOCK_BYTES * BLOCK_BYTES]


SIDES = (
    at_8_khz(level(2, 0.1), level(2, 0.3)),
    at_8_khz(level(2.2, 0.3), level(1.8, 0.1)),
)
WHOLE = fragments(SIDES)


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not a secret")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@dataclass
class ConnectLab:
    lab: Lab
    kinesis: FakeKinesis
    server: AmazonConnectServer

    async def announce(self, body: Any, token: str = TOKEN) -> tuple[int, Any]:
        url = f"http://127.0.0.1:{self.server.port}{PATH}"
        headers = {"Authorization": f"Bearer {token}"}
        async with (
            aiohttp.ClientSession() as session,
            session.post(url, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def until_ended(self, count: int = 1) -> list[str]:
        """Return why streams ended, once so many did."""
        async with asyncio.timeout(60):
            while len(self.reasons) < count:  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
        return self.reasons

    @property
    def reasons(self) -> list[str]:
        return [each.reason for each in self.lab.published if isinstance(each, StreamClosed)]

    @property
    def opened(self) -> list[StreamOpened]:
        return [each for each in self.lab.published if isinstance(each, StreamOpened)]


@asynccontextmanager
async def connect_lab(
    monkeypatch: pytest.MonkeyPatch, *, end_after_s: float = 30.0, **limits: Any
) -> AsyncIterator[ConnectLab]:
    settings = AmazonConnectConfig(port=0, end_after_s=end_after_s)
    config = replace(
        BOTH_ANALYSED,
        telephony=TelephonyConfig(amazon_connect=settings),
        access=AccessConfig(tokens={"flow": TOKEN}, refusal_delay_ms=0),
    )
    async with fake_kinesis() as kinesis, live_lab(None, config, **limits) as lab:
        monkeypatch.setenv("AWS_ENDPOINT_URL_KINESIS_VIDEO", kinesis.url)
        server = AmazonConnectServer(
            ListenerContext(
                registry=lab.registry,
                access=lab.access,
                config=lab.config,
                is_ready=lambda: lab.engine.is_ready,
                on_refused=lab.refuse,
                descriptors=Descriptors(1 << 30),
            )
        )
        await server.start()
        try:
            yield ConnectLab(lab, kinesis, server)
        finally:
            await server.aclose()


async def as_samples() -> list[Any]:
    """Return what the same call gives by the native protocol."""
    both = np.stack([np.frombuffer(each, "<i2") for each in SIDES], 1).tobytes()
    async with live_lab(config=BOTH_ANALYSED) as lab:
        channels = [{"role": "customer"}, {"role": "agent"}]
        return await stream(lab, [both], sample_rate=8000, channels=channels, live=False)


async def test_a_contact_is_read_to_its_end_and_gives_the_timeline_of_its_samples(
    monkeypatch: pytest.MonkeyPatch,
):
    other = fragments(SIDES, contact="somebody-else", first=100)
    async with connect_lab(monkeypatch) as connect:
        connect.kinesis.responses = [[*WHOLE, *other]]
        assert await connect.announce(event()) == (202, {"accepted": True})
        assert await connect.until_ended() == ["stopped"]
        (opened,), told = connect.opened, connect.lab.published
        assert len(connect.lab.registry) == 0
    assert connect.kinesis.asked == [
        {"StartSelectorType": "FRAGMENT_NUMBER", "AfterFragmentNumber": "100"}
    ]
    assert opened.name == CONTACT
    assert [each.role for each in opened.channels] == ["customer", "agent"]
    assert opened.metadata == {"platform": "amazon-connect", "queue": "Billing"}
    expected = await as_samples()
    assert timeline(told) == timeline(expected)
    assert tiles(told, 1) == tiles(expected, 1)


async def test_a_response_that_breaks_off_is_gone_on_with_and_nothing_is_lost(
    monkeypatch: pytest.MonkeyPatch,
):
    async with connect_lab(monkeypatch) as connect:
        connect.kinesis.responses = [
            "ResourceNotFoundException",
            [*WHOLE[:2], WHOLE[2][:5000]],
            [*WHOLE[2:], *fragments(SIDES, contact="somebody-else", first=100)],
        ]
        await connect.announce(event(after=None))
        # Lambda functions that time out are called again.
        assert await connect.announce(event(after=None)) == (202, {"accepted": True})
        assert await connect.until_ended() == ["stopped"]
        told = connect.lab.published
    first, again, after, *_ = connect.kinesis.asked
    assert first == again == {"StartSelectorType": "NOW"}
    assert after["StartSelectorType"] == "CONTINUATION_TOKEN"
    assert WHOLE[1].endswith(after["ContinuationToken"].encode())
    assert timeline(told) == timeline(await as_samples())


async def test_a_response_that_stays_open_without_audio_is_an_end(monkeypatch: pytest.MonkeyPatch):
    async with connect_lab(monkeypatch, end_after_s=3.0) as connect:
        connect.kinesis.responses = [[*WHOLE, 60.0]]
        await connect.announce(event())
        assert await connect.until_ended() == ["stopped"]
        assert timeline(connect.lab.published) == timeline(await as_samples())


@pytest.mark.parametrize(
    ("token", "body", "refused"),
    [
        ("wrong", event(), (401, "unauthorized")),
        (TOKEN, {"Details": {}}, (400, "bad_message")),
        (TOKEN, event(team="NO SUCH"), (403, "forbidden")),
    ],
)
async def test_who_may_not_or_cannot_is_told(
    monkeypatch: pytest.MonkeyPatch, token: str, body: Any, refused: tuple[int, str]
):
    async with connect_lab(monkeypatch) as connect:
        status, answer = await connect.announce(body, token)
        assert (status, answer["code"]) == refused
        assert connect.lab.refused == [refused[1]]


async def test_a_full_server_and_a_stream_that_kinesis_refuses(monkeypatch: pytest.MonkeyPatch):
    async with connect_lab(monkeypatch, max_streams=1, end_after_s=1.0) as connect:
        async with connect.lab.connect() as socket:
            await socket.send(start(token=TOKEN, channels=[{"role": "customer"}]))
            await receive(socket)
            assert (await connect.announce(event()))[0] == 503
            await send(socket, type="stop")
            await receive_all(socket)
        connect.kinesis.responses = ["AccessDeniedException"] * 9
        assert (await connect.announce(event()))[0] == 202
        async with asyncio.timeout(30):
            while connect.lab.refused[-1] != "idle":  # noqa: ASYNC110 - no event tells of it
                await asyncio.sleep(0.01)
        assert len(connect.opened) == 1, "the one by WebSocket"


async def test_a_server_that_stops_ends_its_contacts_at_once(monkeypatch: pytest.MonkeyPatch):
    async with connect_lab(monkeypatch) as connect:
        connect.kinesis.responses = [[*WHOLE[:2], 30.0]]
        await connect.announce(event())
        while not connect.opened:  # noqa: ASYNC110 - no event tells of it
            await asyncio.sleep(0.01)
    assert connect.reasons == ["server_stopped"]
