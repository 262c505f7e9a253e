"""A real nginx in front of the whole server: it must not open the door to everybody behind it."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.support.nginx import FORWARDS, Proxy, nginx
from tests.support.whole_server import whole_server

TOKEN = "operator-0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
WITH_TOKEN = f"stream_server.access.tokens={{operator: {TOKEN}}}"
PASSES_LOCALHOST = "proxy_set_header Host localhost;"


async def asked(proxy: Proxy, headers: dict[str, str]) -> tuple[int, int]:
    """Return the status of the interface, and of a stream that is begun: 101 if it is."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{proxy.http_url}/api/v1/streams", headers=headers) as answer:
            status = answer.status
    try:
        query = "/?encoding=pcm_s16le&sample_rate=16000"
        async with connect(proxy.ingest_url + query, additional_headers=headers, proxy=None):
            return status, 101
    except InvalidStatus as error:
        return status, error.response.status_code


@pytest.mark.needs("nginx")
async def test_a_proxy_does_not_open_the_door(tmp_path: Path):
    async with whole_server(tmp_path, WITH_TOKEN) as server:
        direct = Proxy(server.http_url, server.ingest_url)
        assert await asked(direct, {}) == (401, 401)
        assert await asked(direct, BEARER) == (200, 101)
        for directives in ("", PASSES_LOCALHOST, FORWARDS):
            with nginx(
                tmp_path, http=server.http_url, ingest=server.ingest_url, directives=directives
            ) as proxy:
                assert await asked(proxy, {}) == (401, 401)
                assert await asked(proxy, {"X-Forwarded-For": "127.0.0.1"}) == (401, 401)
                assert await asked(proxy, BEARER) == (200, 101)


@pytest.mark.needs("nginx")
async def test_a_trusted_proxy_says_that_the_client_came_by_tls(tmp_path: Path):
    trusted = "stream_server.access.trusted_proxies=[127.0.0.1]"
    by_tls = FORWARDS.replace("$scheme", "https")
    async with whole_server(tmp_path, WITH_TOKEN, trusted) as server:
        with nginx(
            tmp_path, http=server.http_url, ingest=server.ingest_url, directives=by_tls
        ) as proxy:
            assert await asked(proxy, {"X-Forwarded-For": "127.0.0.1"}) == (401, 401)
            assert await asked(proxy, BEARER) == (200, 101)
            async with aiohttp.ClientSession() as session:
                url, form = f"{proxy.http_url}/login", {"secret": TOKEN, "next": "/"}
                async with session.post(url, data=form, allow_redirects=False) as answer:
                    cookie = answer.cookies["emotion_monitor_session"]
                    assert (answer.status, cookie["secure"]) == (303, True)
                page = await session.get(f"{proxy.http_url}/", headers=BEARER)
                assert "wss://" in page.headers["Content-Security-Policy"]
