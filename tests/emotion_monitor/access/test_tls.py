"""TLS of the server's own, on both ports."""

from __future__ import annotations

import asyncio
import os
import ssl
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import trustme

from emotion_monitor.commands.stream import with_choices
from mic_client import ArraySource, StreamClient, StreamOptions, emotion_feed, tls_trusting
from mic_client.errors import ClientError, ConnectionFailedError
from ser_engine.errors import ConfigError
from stream_server.server import Server
from stream_server.wire.messages import Ready
from stream_server.wire.results import StreamOpened, Summary
from tests.support.results import make_opened
from tests.support.whole_server import settings_in, whole_server

TOKEN = "operator-0123456789abcdef"
WITH_TOKEN = f"stream_server.access.tokens={{operator: {TOKEN}}}"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Authority:
    """A certificate authority, and the files of a server in a folder."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(str(self.ca_file))
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        self.issue("localhost")

    def issue(self, *names: str) -> None:
        """Replace the certificate, and the key after it, as certbot does."""
        issued = self.ca.issue_cert(*names)
        chain = b"".join(blob.bytes() for blob in issued.cert_chain_pems)
        for path, data in ((self.certificate, chain), (self.key, issued.private_key_pem.bytes())):
            new = path.with_suffix(".new")
            new.write_bytes(data)
            os.replace(new, path)

    @property
    def settings(self) -> tuple[str, str]:
        return (
            f"stream_server.listen.tls_certificate={self.certificate}",
            f"stream_server.listen.tls_key={self.key}",
        )


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


async def serial_of(port: int, tls: ssl.SSLContext) -> str:
    """Return the serial number of the certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=tls)
    serial: str = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
    writer.close()
    return serial


async def test_streams_feeds_and_pages_come_by_tls(tmp_path: Path, authority: Authority):
    tls = tls_trusting(authority.ca_file)
    silence = np.zeros(16_000, dtype=np.float32)
    async with whole_server(tmp_path, WITH_TOKEN, *authority.settings) as server:
        assert server.ingest_url.startswith("wss://") and server.http_url.startswith("https://")
        options = StreamOptions(token=TOKEN, tls=tls)
        async with StreamClient(ArraySource(silence, 16_000), server.ingest_url, options) as client:
            messages = [message async for message in client]
        assert isinstance(messages[0], Ready) and isinstance(messages[-1], Summary)
        assert server.store is not None
        await server.store.flush()
        one = emotion_feed(
            server.http_url, token=TOKEN, tls=tls, stream=messages[0].stream_id, from_s=0
        )
        first, *_ = [result async for result in one]
        assert isinstance(first, StreamOpened)
        async with aiohttp.ClientSession() as session:
            form = {"secret": TOKEN, "next": "/"}
            login = f"{server.http_url}/login"
            async with session.post(login, data=form, allow_redirects=False, ssl=tls) as answer:
                assert answer.cookies["emotion_monitor_session"]["secure"]
            async with session.get(f"{server.http_url}/", headers=BEARER, ssl=tls) as answer:
                assert "wss://" in answer.headers["Content-Security-Policy"]
            # The server's own client of itself, whatever the name in the certificate.
            url = f"{server.http_url}/api/v1/sample-call"
            async with session.post(url, headers=BEARER, json={}, ssl=tls) as answer:
                assert answer.status < 300, await answer.text()


async def test_a_client_that_does_not_trust_the_authority_does_not_connect(
    tmp_path: Path, authority: Authority
):
    silence = ArraySource(np.zeros(160, dtype=np.float32), 16_000)
    async with whole_server(tmp_path, WITH_TOKEN, *authority.settings) as server:
        for tls in (None, tls_trusting(Authority(make(tmp_path / "other")).ca_file)):
            options = StreamOptions(token=TOKEN, tls=tls)
            with pytest.raises(ConnectionFailedError, match="certificate is not trusted"):
                async with StreamClient(silence, server.ingest_url, options) as client:
                    async for _ in client:
                        pass


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


async def test_a_new_certificate_is_taken_and_a_broken_one_is_not(
    tmp_path: Path, authority: Authority
):
    tls = tls_trusting(authority.ca_file)
    async with whole_server(tmp_path, WITH_TOKEN, *authority.settings) as server:
        assert server.tls is not None
        port = server.ingest_port
        first = await serial_of(port, tls)
        async with aiohttp.ClientSession() as session:
            live = await session.ws_connect(
                f"{server.http_url}/api/v1/live", headers=BEARER, ssl=tls
            )
            await live.receive_str()
            authority.issue("localhost")
            server.tls.refresh()
            second = await serial_of(port, tls)
            assert second != first
            authority.key.write_text("not a key")
            server.tls.refresh()
            assert await serial_of(port, tls) == second
            # What was open before all of this still is.
            server.bus.publish(make_opened("of-now"))
            assert "of-now" in await live.receive_str()
            await live.close()


@pytest.mark.parametrize(
    ("settings", "lacks"),
    [
        ((), "a token or a person who may log in and without TLS"),
        ((WITH_TOKEN,), "without TLS, expected"),
        (("tls",), "without a token or a person who may log in, expected"),
        (("stream_server.access.behind_proxy=true",), "a token or a person who may log in, "),
    ],
)
async def test_beyond_this_machine_a_server_wants_tokens_and_tls(
    tmp_path: Path, authority: Authority, settings: tuple[str, ...], lacks: str
):
    more = authority.settings if settings == ("tls",) else settings
    with pytest.raises(ConfigError, match=r"listen\.host '0\.0\.0\.0'") as caught:
        async with whole_server(tmp_path, "stream_server.listen.host=0.0.0.0", *more):
            pass
    assert lacks in str(caught.value)


async def test_beyond_this_machine_a_server_with_tokens_listens_behind_a_proxy_or_with_tls(
    tmp_path: Path, authority: Authority
):
    for more in (authority.settings, ("stream_server.access.behind_proxy=true",)):
        async with whole_server(
            tmp_path, "stream_server.listen.host=0.0.0.0", WITH_TOKEN, *more
        ) as server:
            assert server.ingest_port


def test_files_that_cannot_be_used_are_named(tmp_path: Path, authority: Authority):
    with pytest.raises(ConfigError, match="expected both or neither"):
        settings_in(tmp_path, authority.settings[0])
    authority.key.unlink()
    settings = settings_in(tmp_path, *authority.settings)
    with pytest.raises(ConfigError, match=r"server\.key': no such file or directory"):
        Server(settings.ser_engine, settings.stream_server)
    with pytest.raises(ClientError, match="no certificate in it"):
        tls_trusting(make_file(tmp_path / "empty.pem"))
    with pytest.raises(ClientError, match="No such file"):
        with_choices(
            StreamOptions(),
            wants="points",
            token="",
            ca_file=tmp_path / "nowhere.pem",
            server_certificate=None,
            resume=True,
        )


def make_file(path: Path) -> Path:
    path.write_text("")
    return path


async def test_a_handshake_that_does_not_come_ends(tmp_path: Path, authority: Authority):
    async with whole_server(tmp_path, WITH_TOKEN, *authority.settings) as server:
        for port in (server.ingest_port, int(server.http_url.rpartition(":")[2])):
            reader, writer = await asyncio.open_connection("localhost", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read() == b""
            writer.close()
