"""A telephone platform that speaks AudioHook, written from the specification alone.

It knows nothing of the server's code: it counts, signs and checks by itself, and fails where the
platform would end the session with an error.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect

NULL = str(uuid.UUID(int=0))
STEREO = ["external", "internal"]
MESSAGE_S = 0.2
_RATE = 8000


def media(*channels: list[str], form: str = "PCMU") -> list[dict[str, Any]]:
    return [{"type": "audio", "format": form, "channels": c, "rate": _RATE} for c in channels]


OFFERED = media(STEREO, ["external"], ["internal"])


class Genesys:
    """One session of the platform.

    Attributes:
        opened: parameters of ``opened``.
        events: entities that the server sent.
        disconnected: parameters of ``disconnect``, once it came.
        sent_s: audio that was sent.
    """

    def __init__(self, url: str, number: int = 1, headers: Mapping[str, str] | None = None) -> None:
        self.url = url
        self.session_id = str(uuid.UUID(int=(1 << 100) + number))
        self.organization_id = str(uuid.UUID(int=(2 << 100) + number))
        self.conversation_id = str(uuid.UUID(int=(3 << 100) + number))
        self.headers = {
            "Audiohook-Organization-Id": self.organization_id,
            "Audiohook-Session-Id": self.session_id,
            "Audiohook-Correlation-Id": str(uuid.UUID(int=(4 << 100) + number)),
            **(headers or {}),
        }
        self.opened: dict[str, Any] = {}
        self.events: list[dict[str, Any]] = []
        self.disconnected: dict[str, Any] | None = None
        self.position_ticks = 0
        self._seq = 0
        self._server_seq = 0
        self._unanswered: int | None = None
        self._bytes_per_tick = 2
        self._socket: ClientConnection

    def sign(self, key: str, secret: str, *, created_s: float, nonce: str = "n" * 22) -> None:
        """Sign the handshake with a client secret in Base64."""
        for name in ("Signature-Input", "Signature"):
            self.headers.pop(name, None)
        self.headers["X-API-KEY"] = key
        parts = urlsplit(self.url)
        covered = {
            "@request-target": parts.path + (f"?{parts.query}" if parts.query else ""),
            "@authority": parts.netloc,
            **{name.lower(): value for name, value in self.headers.items()},
        }
        names = " ".join(f'"{name}"' for name in covered)
        parameters = (
            f'({names});keyid="{key}";nonce="{nonce}";alg="hmac-sha256"'
            f";created={int(created_s)};expires={int(created_s) + 300}"
        )
        lines = [f'"{name}": {value}' for name, value in covered.items()]
        text = "\n".join([*lines, f'"@signature-params": {parameters}'])
        mac = hmac.digest(base64.b64decode(secret), text.encode(), hashlib.sha256)
        self.headers["Signature-Input"] = f"sig1={parameters}"
        self.headers["Signature"] = f"sig1=:{base64.b64encode(mac).decode()}:"

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Genesys]:
        options: dict[str, Any] = {"compression": None, "proxy": None, "ping_interval": None}
        async with connect(self.url, additional_headers=self.headers, **options) as self._socket:
            yield self

    @property
    def sent_s(self) -> float:
        return self.position_ticks / _RATE

    # -- what it says -----------------------------------------------------------------------------

    async def open(self, offered: Any = None, **parameters: Any) -> None:
        """Open the session; return when it is, or when the server disconnects."""
        await self.say(
            "open",
            organizationId=self.organization_id,
            media=OFFERED if offered is None else offered,
            **{
                "conversationId": self.conversation_id,
                "participant": {
                    "id": str(uuid.UUID(int=5 << 100)),
                    "ani": "+15555551234",
                    "aniName": "John Doe",
                    "dnis": "+18005556789",
                },
                **parameters,
            },
        )
        message = await self.hear_until("opened", "disconnect")
        if message["type"] == "opened":
            self.opened = message["parameters"]
            (chosen,) = self.opened["media"]
            assert chosen in (OFFERED if offered is None else offered)
            self._bytes_per_tick = len(chosen["channels"]) * (2 if chosen["format"] == "L16" else 1)

    async def probe(self) -> None:
        await self.open(conversationId=NULL, participant={"id": NULL, "ani": "", "dnis": ""})

    async def send_audio(self, data: bytes, *, pings: bool = True) -> None:
        """Send audio in messages of 200 ms, in the time of the loop, with pings every 5 s."""
        loop = asyncio.get_running_loop()
        size = round(MESSAGE_S * _RATE) * self._bytes_per_tick
        began_s = loop.time()
        for number, at in enumerate(range(0, len(data), size), start=1):
            await asyncio.sleep(max(began_s + number * MESSAGE_S - loop.time(), 0))
            if pings and number % 25 == 5:
                await self.ping()
            await self._socket.send(data[at : at + size])
            self.position_ticks += len(data[at : at + size]) // self._bytes_per_tick

    async def ping(self) -> None:
        """Ping and wait for the pong, which names the ping."""
        await self.say("ping")
        assert self._unanswered is None, "a ping was missed"
        self._unanswered = self._seq
        await self.hear_until("pong")

    async def pause(self) -> None:
        await self.say("paused")

    async def resume(self, after_s: float) -> None:
        await self._gap("resumed", after_s)

    async def discard(self, length_s: float) -> None:
        await self._gap("discarded", length_s)

    async def close(self, reason: str = "end") -> None:
        """Close the session, wait for what is left, and close the WebSocket."""
        await self.say("close", reason=reason)
        async with asyncio.timeout(10):
            await self.hear_until("closed")
        await self._socket.close()

    def hang_up(self) -> None:
        """Be gone without a word."""
        self._socket.transport.abort()

    async def say(self, kind: str, **parameters: Any) -> None:
        self._seq += 1
        message = {
            "version": "2",
            "id": self.session_id,
            "type": kind,
            "seq": self._seq,
            "serverseq": self._server_seq,
            "position": f"PT{self.sent_s}S",
            "parameters": parameters,
        }
        await self._socket.send(json.dumps(message))

    async def _gap(self, kind: str, length_s: float) -> None:
        start_s = self.sent_s
        self.position_ticks += round(length_s * _RATE)
        await self.say(kind, start=f"PT{start_s}S", discarded=f"PT{length_s}S")

    # -- what it hears ----------------------------------------------------------------------------

    async def hear_until(self, *kinds: str) -> dict[str, Any]:
        """Return the next message of one of these types; heed the others."""
        while True:
            message = await self.hear()
            if message["type"] in kinds:
                return message

    async def hear(self) -> dict[str, Any]:
        """Return the next message, checked as the platform does."""
        text = await self._socket.recv()
        assert isinstance(text, str), "415: got a binary message"
        assert len(text) <= 65_535, "413: got a message that is too long"
        message: dict[str, Any] = json.loads(text)
        assert (message["version"], message["id"]) == ("2", self.session_id)
        assert message["seq"] == self._server_seq + 1
        assert 0 <= message["clientseq"] <= self._seq
        self._server_seq = message["seq"]
        match message["type"]:
            case "pong":
                assert message["clientseq"] == self._unanswered
                self._unanswered = None
            case "event":
                self.events += message["parameters"]["entities"]
            case "disconnect":
                self.disconnected = message["parameters"]
        return message
