"""Who is let in, as what, and how the others are refused: with ways in of a test's own."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stream_server.access import MACHINE, AccessConfig
from stream_server.config import ServerConfig
from stream_server.platforms.route import Admission, Handshake, Refusal
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.dialect import AudioData, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import ChannelSpec, Error, Ready, ServerMessage, Stop
from stream_server.wire.results import Point, StreamClosed, Summary
from stream_server.wire.start import StreamSpec
from tests.support.live_lab import level, live_lab, pcm
from tests.support.virtual_time import current_loop, virtual_time

SPEC = StreamSpec(AudioFormat("pcm_s16le", 16_000), (ChannelSpec(role="customer"),))


class ParrotDialect:
    """``go`` begins, ``hello`` is answered, ``bye`` ends; the client is to close."""

    start = None
    can_resume = False
    begins_with = "go"

    def __init__(self, *, client_closes: bool = True) -> None:
        self.client_closes = client_closes

    def receive(self, message: str | bytes) -> list[Inbound]:
        match message:
            case bytes():
                return [AudioData(message)]
            case "go":
                return [Say(("first",)), SPEC, AudioData(pcm(level(0.5, 0.3)))]
            case "hello":
                return [Say(("hello", "again"))]
            case "bye":
                return [Stop()]
        raise ProtocolError(ErrorCode.UNAUTHORIZED, "got no parrot")

    def send(self, message: ServerMessage) -> list[str | bytes]:
        match message:
            case Ready():
                return ["ready"]
            case Summary():
                return [f"heard {message.duration_s:g} s"]
            case Error():
                return [f"error {message.code}"]
        return []


class ParrotRoute:
    subprotocols: tuple[str, ...] = ("parrot",)

    def __init__(self, **options: Any) -> None:
        self.options = options

    def admit(self, handshake: Handshake) -> Admission:
        if handshake.path_token == "wrong":
            raise ProtocolError(ErrorCode.UNAUTHORIZED, "got no parrot")
        return Admission(ParrotDialect(**self.options), lambda first: MACHINE)

    def refuse(self, error: ProtocolError) -> Refusal:
        return Refusal(418, f"no {error.code}", {"X-Parrot": "no"})


def parrots(**options: Any) -> Any:
    return live_lab(routes={"/parrot": ParrotRoute(**options)})


async def said(socket: Any, count: int) -> list[str]:
    return [str(await socket.recv()) for _ in range(count)]


@virtual_time
async def test_a_dialect_answers_by_itself_before_and_in_a_stream():
    async with parrots() as lab, lab.connect("/parrot") as socket:
        await socket.send("hello")
        await socket.send("go")
        await socket.send("hello")
        assert await said(socket, 6) == ["hello", "again", "first", "ready", "hello", "again"]
        await socket.send(pcm(level(1.0, 0.3)))
        await socket.send("bye")
        # What came in one message with the beginning was heard as well.
        assert await said(socket, 1) == ["heard 1.5 s"]


@virtual_time
async def test_a_client_that_is_to_close_is_answered_until_it_does():
    async with parrots() as lab, lab.connect("/parrot") as socket:
        await socket.send("go")
        await socket.send("bye")
        assert await said(socket, 3) == ["first", "ready", "heard 0.5 s"]
        await socket.send("hello")
        assert await said(socket, 2) == ["hello", "again"]
        await socket.close()
        assert socket.close_code == 1000
    assert [type(each) for each in lab.published[-2:]] == [Summary, StreamClosed]


@virtual_time
async def test_a_client_that_is_to_close_and_does_not_is_closed():
    async with parrots() as lab, lab.connect("/parrot") as socket:
        await socket.send("go")
        await socket.send("bye")
        await said(socket, 3)
        before_s = current_loop().time()
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000
        assert current_loop().time() - before_s == pytest.approx(5.0, abs=0.1)


@virtual_time
async def test_a_client_may_go_without_a_stream():
    async with parrots(client_closes=False) as lab, lab.connect("/parrot") as socket:
        await socket.send("bye")
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1000
    assert (lab.published, lab.refused) == ([], [])


@virtual_time
async def test_a_lost_client_that_cannot_come_back_ends_its_stream_at_once():
    async with parrots() as lab:
        socket = await lab.connect("/parrot")
        await socket.send("go")
        await said(socket, 2)
        socket.transport.abort()
        await asyncio.sleep(1.0)
        # A client that may come back would have half a minute.
        assert isinstance(lab.published[-1], StreamClosed)
        assert lab.published[-1].reason == "client_lost"


@virtual_time
async def test_an_error_is_told_in_the_clients_own_words():
    async with parrots() as lab, lab.connect("/parrot") as socket:
        await socket.send("what?")
        assert await said(socket, 1) == ["error unauthorized"]
    assert lab.refused == ["unauthorized"]


@virtual_time
async def test_a_refusal_has_the_clients_own_form_and_takes_its_time():
    async with parrots() as lab:
        for path, elapsed_s in {"/parrot/wrong": 0.5, "/parrot/wrong?a=b": 0.5}.items():
            before_s = current_loop().time()
            with pytest.raises(InvalidStatus) as caught:
                await lab.connect(path)
            assert current_loop().time() - before_s == pytest.approx(elapsed_s, abs=0.05)
            response = caught.value.response
            assert (response.status_code, response.body) == (418, b"no unauthorized")
            assert response.headers["X-Parrot"] == "no"
        assert lab.refused == ["unauthorized"] * 2


@virtual_time
async def test_an_unknown_path_is_refused_and_those_there_are_named():
    async with parrots() as lab:
        for path in ("/nowhere", "/parrots", "//parrot", "/%2e%2e/parrot"):
            with pytest.raises(InvalidStatus) as caught:
                await lab.connect(path)
            body = json.loads(caught.value.response.body or b"")
            assert (body["code"], caught.value.response.status_code) == ("unknown_path", 404)
            assert "'/parrot'" in body["message"]


@virtual_time
async def test_what_may_be_a_token_for_another_path_is_not_repeated():
    async with parrots() as lab:
        with pytest.raises(InvalidStatus) as caught:
            await lab.connect("/parot/0123456789abcdef?a=0123456789abcdef")
    body = json.loads(caught.value.response.body or b"")
    assert body["code"] == "unknown_path"
    assert "'/parot'" in body["message"] and "0123456789abcdef" not in body["message"]


@virtual_time
async def test_the_operator_is_told_what_a_client_cannot_be():
    start = {"event": "start", "start": {"callSid": "CA1"}}
    bad = json.dumps({"event": "media", "media": {"track": "inbound", "payload": "%"}})
    foreign = {"event": "start", "start": {"mediaFormat": {"encoding": "opus"}}}
    with capture_logs() as logs:
        async with live_lab() as lab:
            async with lab.connect("/twilio/0123456789abcdef") as socket:
                await socket.send(json.dumps(foreign))
                await socket.wait_closed()
            async with lab.connect("/twilio/0123456789abcdef") as socket:
                await socket.send(json.dumps(start))
                for _ in range(5):
                    await socket.send(bad)
                await socket.send(json.dumps({"event": "stop"}))
                await socket.wait_closed()
            # Who is told itself is no matter for the log.
            async with lab.connect() as socket:
                await socket.send("{")
                await socket.recv()
    told = [e for e in logs if e["event"] in ("connection_ended", "message_ignored")]
    assert [(each["event"], each["route"], each["code"]) for each in told] == [
        ("connection_ended", "/twilio", "bad_format"),
        ("message_ignored", "/twilio", "bad_message"),
    ]
    assert "opus" in told[0]["reason"] and "Base64" in told[1]["reason"]
    assert not any("0123456789abcdef" in str(entry) for entry in logs)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", "'start'"),
        ("/twilio", "'start'"),
        ("/vonage", "'websocket:connected'"),
        ("/asterisk", "MEDIA_START"),
        ("/freeswitch", "audio"),
        ("/audiohook", "'open'"),
        ("/v1/listen", "header of the audio"),
    ],
)
@virtual_time
async def test_who_says_nothing_is_told_what_was_expected_of_it(path: str, expected: str):
    said: list[Any] = []
    with capture_logs() as logs:
        async with live_lab() as lab, lab.connect(path) as socket:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    said.append(await socket.recv())
    assert lab.refused == ["not_started"]
    # Where the protocol has no words for it, the log has.
    told = said or [entry["reason"] for entry in logs if entry["event"] == "connection_ended"]
    assert f"got no {expected} within 10 s" in str(told[0])


@virtual_time
async def test_whoever_proves_who_it_is_finds_room_beside_those_who_do_not():
    behind = AccessConfig(tokens={"pbx": "0123456789abcdef"}, trusted_proxies=("127.0.0.1",))
    async with (
        live_lab(config=ServerConfig(access=behind)) as lab,
        contextlib.AsyncExitStack() as sockets,
    ):
        for number in range(256):
            # Each address has a share of the places.
            headers = {"X-Forwarded-For": f"203.0.113.{number // 64}"}
            await sockets.enter_async_context(lab.connect("/", additional_headers=headers))
        with pytest.raises(InvalidStatus) as caught:
            await lab.connect("/")
        assert caught.value.response.status_code == 503
        await sockets.enter_async_context(lab.connect("/twilio/0123456789abcdef"))


@virtual_time
async def test_a_subprotocol_that_is_known_is_agreed_on():
    async with parrots() as lab:
        async with lab.connect("/parrot", subprotocols=["other", "parrot"]) as socket:
            assert socket.subprotocol == "parrot"
        async with lab.connect("/parrot", subprotocols=["other"]) as socket:
            assert socket.subprotocol is None


@virtual_time
async def test_a_wrong_token_takes_as_long_as_is_set():
    config = ServerConfig(access=AccessConfig(tokens={"crm": "0123456789abcdef"}))
    slow = replace(config, access=replace(config.access, refusal_delay_ms=2000))
    async with live_lab(config=slow) as lab:
        lab.gateway._access._listens_on_loopback = False
        before_s = current_loop().time()
        with pytest.raises(InvalidStatus):
            await lab.connect("/?sample_rate=8000")
        assert current_loop().time() - before_s == pytest.approx(2.0, abs=0.05)


@virtual_time
async def test_points_of_a_stream_that_shows_none_are_published():
    async with parrots() as lab, lab.connect("/parrot") as socket:
        await socket.send("go")
        await socket.send(pcm(level(4.0, 0.3)))
        await socket.send("bye")
        await said(socket, 3)
    assert any(isinstance(each, Point) for each in lab.published)
