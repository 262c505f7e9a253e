from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ser_engine.errors import ConfigError
from stream_server.access import SESSION_COOKIE, Access, AccessConfig, ListenConfig, Scope, Who
from stream_server.http import WHO, below, make_app, needs
from stream_server.http.login import ARRIVAL
from stream_server.metrics import Metrics

TOKEN = "crm-0123456789abcdef"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
Client = TestClient[web.Request, web.Application]


def make_access(host: str, *origins: str, **config: Any) -> Access:
    tokens = {} if host == "localhost" else {"crm": TOKEN}
    return Access(
        AccessConfig(tokens=tokens, allowed_origins=origins, **config), ListenConfig(host=host)
    )


@asynccontextmanager
async def serving(
    host: str = "localhost",
    *origins: str,
    reasons: list[str] | None = None,
    base_path: str = "",
    **config: Any,
) -> AsyncIterator[Client]:
    """A server with pages of its own; that on "localhost" has no token, others have one."""
    app = make_app(
        access=make_access(host, *origins, **config),
        metrics=Metrics(),
        readiness=lambda: reasons or [],
        base_path=base_path,
    )

    async def show_who(request: web.Request) -> web.Response:
        return web.json_response(
            {
                "name": request[WHO].name,
                "address": request[ARRIVAL].address,
                "is_secure": request.secure,
            }
        )

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="hello", headers={"Content-Security-Policy": "script-src 'self'"})

    app.router.add_get("/who", needs(Scope.READ, show_who))
    app.router.add_post("/who", needs(Scope.READ, show_who))
    app.router.add_get("/page", needs(Scope.READ, page))
    async with TestClient(TestServer(below(base_path, app))) as client:
        yield client


async def test_alive_and_ready():
    async with serving() as client:
        assert await (await client.get("/healthz")).json() == {"alive": True}
        answer = await client.get("/readyz")
        assert answer.status == 200
        assert await answer.json() == {"ready": True, "reasons": []}


async def test_not_ready_says_why():
    reasons: list[str] = ["the model is being loaded"]
    async with serving(reasons=reasons) as client:
        answer = await client.get("/readyz")
        assert answer.status == 503
        assert await answer.json() == {"ready": False, "reasons": ["the model is being loaded"]}
        assert (await client.get("/healthz")).status == 200
        reasons.clear()
        assert (await client.get("/readyz")).status == 200


async def test_metrics_are_shown():
    async with serving() as client:
        answer = await client.get("/metrics")
        assert answer.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "# TYPE emotion_monitor_streams gauge" in await answer.text()


async def who(client: Client, **headers: str) -> Any:
    return await (await client.get("/who", headers=headers)).json()


async def test_on_loopback_no_token_is_needed_while_there_is_none():
    async with serving() as client:
        assert (await who(client))["name"] == ""
    async with serving("127.0.0.1") as client:
        assert (await who(client))["code"] == "unauthorized"
        assert (await who(client, **BEARER))["name"] == "crm"
    async with serving("127.0.0.1", trust_loopback=True) as client:
        assert (await who(client))["name"] == ""


async def test_what_came_through_a_proxy_is_not_of_this_machine():
    """What a proxy on this machine adds says that others are behind it."""
    for header in ("X-Forwarded-For", "X-Forwarded-Proto", "Forwarded", "Via", "X-Real-IP"):
        async with serving("127.0.0.1", trust_loopback=True) as client:
            assert (await who(client, **{header: "127.0.0.1"}))["code"] == "unauthorized"
        async with serving() as client:
            assert (await who(client, **{header: "127.0.0.1"}))["code"] == "unauthorized"


async def test_only_a_trusted_proxy_says_who_comes_and_how():
    told = {"X-Forwarded-For": "10.9.9.9, 203.0.113.7", "X-Forwarded-Proto": "https"}
    async with serving("127.0.0.1") as client:
        seen = await who(client, **BEARER, **told)
        assert (seen["address"], seen["is_secure"]) == ("127.0.0.1", False)
    async with serving("127.0.0.1", trusted_proxies=("127.0.0.1",)) as client:
        assert (await who(client, **told))["code"] == "unauthorized"
        seen = await who(client, **BEARER, **told)
        assert (seen["address"], seen["is_secure"]) == ("203.0.113.7", True)
        form = {"token": TOKEN, "next": "/who"}
        answer = await client.post("/login", data=form, headers=told, allow_redirects=False)
        assert answer.cookies[SESSION_COOKIE]["secure"]


async def test_a_route_that_says_nothing_of_rights_is_for_admins():
    async def forgotten(_: web.Request) -> web.Response:
        return web.Response(text="hello")

    access = make_access("127.0.0.1")
    reader = access.book.issue(Who("token", "reader", frozenset((Scope.READ,))))
    app = make_app(access=access, metrics=Metrics(), readiness=list)
    app.router.add_get("/forgotten", forgotten)
    async with TestClient(TestServer(app)) as client:
        for token, status in ((reader, 403), (TOKEN, 200)):
            headers = {"Authorization": f"Bearer {token}"}
            assert (await client.get("/forgotten", headers=headers)).status == status


@pytest.mark.parametrize("path", ["/who", "/metrics", "/page", "/nowhere"])
async def test_elsewhere_a_token_is_needed(path: str):
    async with serving("0.0.0.0") as client:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}):
            answer = await client.get(path, headers=headers)
            assert answer.status == 401
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            body = await answer.json()
            assert (body["type"], body["code"]) == ("error", "unauthorized")
            assert body["remedy"]
        assert (await client.get(path, headers=BEARER)).status in (200, 404)


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
async def test_probes_need_no_token(path: str):
    async with serving("0.0.0.0") as client:
        assert (await client.get(path)).status == 200


async def test_a_token_in_the_url_does_not_count():
    async with serving("0.0.0.0") as client:
        assert (await client.get("/who", params={"token": TOKEN})).status == 401


async def test_refusals_are_counted():
    async with serving("0.0.0.0") as client:
        await client.get("/who")
        text = await (await client.get("/metrics", headers=BEARER)).text()
        assert 'emotion_monitor_refused_total{reason="unauthorized",route="http"} 1.0' in text


async def test_a_page_of_another_site_is_refused():
    async with serving() as client:
        for method in ("GET", "POST"):
            headers = {"Origin": "https://evil.example"}
            answer = await client.request(method, "/who", headers=headers)
            assert answer.status == 403
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert (await answer.json())["code"] == "forbidden_origin"


async def test_a_rebound_name_is_refused():
    async with serving() as client:
        answer = await client.get("/healthz", headers={"Host": "evil.example"})
        assert answer.status == 403


async def test_an_allowed_origin_may_read_answers():
    async with serving("0.0.0.0", "https://app.example.org") as client:
        headers = BEARER | {"Origin": "https://app.example.org"}
        answer = await client.get("/who", headers=headers)
        assert answer.status == 200
        assert answer.headers["Access-Control-Allow-Origin"] == "https://app.example.org"
        assert answer.headers["Vary"] == "Origin"


async def test_a_browser_may_ask_if_it_may_ask():
    async with serving("0.0.0.0", "https://app.example.org") as client:
        headers = {
            "Origin": "https://app.example.org",
            "Access-Control-Request-Method": "GET",
            "Access-Control-Request-Headers": "authorization",
        }
        answer = await client.options("/who", headers=headers)
        assert answer.status == 204
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]
        refused = await client.options("/who", headers=headers | {"Origin": "https://evil.example"})
        assert refused.status == 403


@pytest.mark.parametrize("path", ["/healthz", "/who", "/nowhere"])
async def test_every_answer_has_the_security_headers(path: str):
    async with serving() as client:
        headers = (await client.get(path)).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["X-Frame-Options"] == "DENY"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Cache-Control"] == "no-store"
        assert "aiohttp" not in headers["Server"].lower()


async def test_a_page_sets_its_own_policy():
    async with serving() as client:
        headers = (await client.get("/page")).headers
        assert headers["Content-Security-Policy"] == "script-src 'self'"


async def test_other_addresses_of_this_machine_count_as_loopback():
    async with serving() as client:
        url = client.make_url("/who").with_host("127.0.0.1")
        async with aiohttp.ClientSession() as session, session.get(url) as answer:
            assert answer.status == 200


async def test_a_proxy_may_pass_on_the_path_it_serves_this_server_at():
    async with serving("0.0.0.0", base_path="/emotion/live") as client:
        assert (await client.get("/emotion/live/healthz")).status == 200
        assert (await client.get("/healthz")).status == 404
        assert (await client.get("/emotion/live/who", headers=BEARER)).status == 200
        assert (await client.get("/emotion/live/who")).status == 401
        page = await client.get("/emotion/live/who/deeper", headers={"Accept": "text/html"})
        assert 'action="../login"' in await page.text()
        entered = await client.get("/emotion/live", allow_redirects=False)
        assert (entered.status, entered.headers["Location"]) == (308, "/emotion/live/")
        form = {"token": TOKEN, "next": "/who?a=1"}
        answer = await client.post("/emotion/live/login", data=form, allow_redirects=False)
        # Relative, as what is sent to a browser must be; the cookie is for this server alone.
        assert answer.headers["Location"] == "./who?a=1"
        assert answer.cookies[SESSION_COOKIE]["path"] == "/emotion/live"


@pytest.mark.parametrize("path", ["emotion", "/emotion/", "/", "/a b", "/a//b"])
def test_a_base_path_that_cannot_be_is_refused(path: str):
    with pytest.raises(ConfigError, match="base_path"):
        ListenConfig(base_path=path)
