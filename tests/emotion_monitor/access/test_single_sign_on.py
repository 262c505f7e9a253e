"""People who log in elsewhere: at an OpenID Connect provider, or at a trusted proxy."""

from __future__ import annotations

import time
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from stream_server.http.login import CALLBACK_PATH
from stream_server.http.single_sign_on import ATTEMPT_COOKIE
from tests.support.oidc_provider import TestProvider, log_in, provider
from tests.support.whole_server import whole_server

# Of the provider, which runs in this process and uses what Authlib and Flask call outdated.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

PAGE = {"Accept": "text/html"}
GROUPS = (
    "stream_server.access.group_roles={leads: supervisor, desk: viewer, it: admin}",
    "stream_server.access.group_teams={leads: [sales], desk: [support]}",
)


def settings_of(idp: TestProvider, *more: str) -> tuple[str, ...]:
    return (
        f"stream_server.access.oidc.issuer={idp.issuer}",
        "stream_server.access.oidc.client_id=monitor",
        "stream_server.access.oidc.client_secret=of & a test",
        *GROUPS,
        *more,
    )


def browser() -> aiohttp.ClientSession:
    # Cookies of localhost, with a port each: a jar that takes them for one host.
    return aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))


async def who(session: aiohttp.ClientSession, url: str) -> tuple[int, dict[str, object]]:
    async with session.get(f"{url}/api/v1/info") as answer:
        return answer.status, await answer.json() if answer.status == 200 else {}


async def test_a_person_logs_in_at_the_provider_and_out_of_it(tmp_path: Path):
    with provider() as idp:
        idp.add("anna-1", preferred_username="anna", groups=["leads", "others"])
        async with whole_server(tmp_path, *settings_of(idp)) as server, browser() as session:
            url = server.http_url
            async with session.get(f"{url}/history", headers=PAGE) as answer:
                assert answer.status == 401
                assert 'href="./login/oidc?next=%2Fhistory"' in await answer.text()
            answer = await log_in(session, url, "anna-1", "/history")
            assert answer.status == 200
            assert 'content="0; url=../../history"' in await answer.text()
            cookie = answer.cookies["emotion_monitor_session"]
            assert (cookie["httponly"], cookie["samesite"]) == (True, "Strict")
            assert idp.forms[0]["code_verifier"]
            assert (await who(session, url))[0] == 200
            # A supervisor of sales: no admin.
            async with session.get(f"{url}/api/v1/config") as refused:
                assert refused.status == 403
            async with session.post(f"{url}/logout", headers=PAGE) as answer:
                assert f"{idp.issuer}/oauth2/end_session" in await answer.text()
            assert (await who(session, url))[0] == 401
            assert server.store is not None
            await server.store.flush()
            entries = await server.store.audit()
            told = [(entry.action, entry.name) for entry in entries]
            assert ("login", "anna") in told and ("logout", "anna") in told


async def test_teams_and_roles_come_from_the_groups(tmp_path: Path):
    with provider() as idp:
        for name, groups in (("eva", ["desk", "leads"]), ("root", ["it"]), ("nobody", ["x"])):
            idp.add(name, preferred_username=name, groups=groups)
        async with whole_server(tmp_path, *settings_of(idp)) as server:
            seen: dict[str, object] = {}
            for name in ("eva", "root", "nobody"):
                async with browser() as session:
                    answer = await log_in(session, server.http_url, name)
                    cookie = answer.cookies.get("emotion_monitor_session")
                    if cookie is None:
                        seen[name] = (
                            answer.status,
                            "None of your groups" in await answer.text(),
                        )
                        continue
                    known = server.access.session(cookie.value)
                    assert known is not None
                    found = server.access.who_of(known)
                    assert found is not None
                    seen[name] = sorted(found.scopes), found.visible_teams
            assert seen["eva"] == (["ingest", "operate", "read"], {"sales", "support"})
            assert seen["root"] == (["admin", "ingest", "operate", "read"], None)
            assert seen["nobody"] == (401, True)


async def test_an_answer_that_is_not_to_this_browsers_login_is_refused(tmp_path: Path):
    with provider() as idp:
        idp.add("anna", groups=["leads"])
        async with whole_server(tmp_path, *settings_of(idp)) as server:
            callback = f"{server.http_url}{CALLBACK_PATH}"
            async with browser() as mine, browser() as other:
                # Somebody else's answer (login CSRF), and none at all.
                async with mine.get(f"{server.http_url}/login/oidc", allow_redirects=False):
                    pass
                kept = mine.cookie_jar.filter_cookies(URL(server.http_url))[ATTEMPT_COOKIE]
                for session, query in ((other, "code=a&state=b"), (mine, "code=a&state=b")):
                    url = f"{callback}?{query}"
                    async with session.get(url, headers=PAGE, allow_redirects=False) as answer:
                        assert answer.status == 401
                        assert "emotion_monitor_session" not in answer.cookies
                        assert "begin again" in await answer.text()
                assert idp.forms == []
                # A cookie that was changed is none.
                other.cookie_jar.update_cookies(
                    {ATTEMPT_COOKIE: "W" + kept.value[1:]}, URL(server.http_url)
                )
                async with other.get(f"{callback}?code=a&state=b", headers=PAGE) as answer:
                    assert answer.status == 401


async def test_a_session_ends_with_that_of_the_provider(tmp_path: Path):
    with provider() as idp:
        for name in ("anna", "eva"):
            idp.add(name, preferred_username=name, groups=["leads"])
        async with whole_server(tmp_path, *settings_of(idp)) as server:
            url = server.http_url
            told = f"{url}/login/oidc/logout"
            async with browser() as anna, browser() as there, browser() as eva:
                for session, name in ((anna, "anna"), (eva, "eva")):
                    await log_in(session, url, name)
                wall = await anna.ws_connect(f"{url}/api/v1/live")
                await wall.receive_str()
                microphone = await anna.ws_connect(server.ingest_url)
                await microphone.send_json(
                    {"type": "start", "encoding": "pcm_s16le", "sample_rate": 16_000}
                )
                assert (await microphone.receive_json())["type"] == "ready"
                head, body, _ = idp.logout_token(sub="anna").split(".")
                for wrong in (
                    f"{head}.{body}.{'A' * 342}",
                    idp.logout_token(),
                    idp.logout_token(sub="anna", nonce="n"),
                    "",
                ):
                    async with there.post(told, data={"logout_token": wrong}) as answer:
                        assert answer.status == 400, wrong
                assert (await who(anna, url))[0] == 200
                token = idp.logout_token(sub="anna")
                async with there.post(told, data={"logout_token": token}) as answer:
                    assert answer.status == 200
                    assert answer.headers["Cache-Control"] == "no-store"
                # The page that is open, too.
                while (await wall.receive()).type is aiohttp.WSMsgType.TEXT:
                    pass
                # And what the page sends.
                await server.refresh_access()
                while (message := await microphone.receive()).type is aiohttp.WSMsgType.TEXT:
                    last = message.json()
                assert (last["type"], last["code"]) == ("error", "unauthorized")
                assert (await who(anna, url))[0] == 401
                assert (await who(eva, url))[0] == 200
                assert server.store is not None
                await server.store.flush()
                entries = await server.store.audit()
                assert ("logout", "anna") in [(one.action, one.target) for one in entries]


async def test_a_session_that_rests_ends_and_so_does_one_that_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = (
        "stream_server.access.tokens={crm: 0123456789abcdef}",
        "stream_server.access.session_idle_s=600",
        "stream_server.access.session_longest_s=1500",
    )
    async with whole_server(tmp_path, *settings) as server, browser() as session:
        url, started, passed_s = server.http_url, time.time(), 0.0
        monkeypatch.setattr(server.access, "_now", lambda: started + passed_s)

        async def log_in_again() -> None:
            form = {"name": "", "secret": "0123456789abcdef"}
            async with session.post(f"{url}/login", data=form) as answer:
                assert answer.status == 200

        await log_in_again()
        for passed_s, status in ((599.0, 200), (1198.0, 200), (1499.0, 200), (1500.0, 401)):
            assert (await who(session, url))[0] == status, passed_s
        await log_in_again()
        wall = await session.ws_connect(f"{url}/api/v1/live")
        await wall.receive_str()
        passed_s += 599
        await server.refresh_access()
        await wall.ping()
        passed_s += 1
        await server.refresh_access()
        while (await wall.receive()).type is aiohttp.WSMsgType.TEXT:
            pass
        assert (await who(session, url))[0] == 401


async def test_keys_that_the_provider_changes_are_fetched_and_others_kept(tmp_path: Path):
    with provider() as idp:
        idp.add("anna", groups=["leads"])
        async with whole_server(tmp_path, *settings_of(idp)) as server:
            for _ in range(2):
                async with browser() as session:
                    assert (await log_in(session, server.http_url, "anna")).status == 200
            assert idp.requests.count("/jwks") == 1
            assert idp.requests.count("/.well-known/openid-configuration") == 1


async def test_a_provider_that_is_away_is_said_so(tmp_path: Path):
    with provider() as idp:
        settings = settings_of(idp)
    async with whole_server(tmp_path, *settings) as server, browser() as session:
        url = f"{server.http_url}/login/oidc"
        async with session.get(url, headers=PAGE, allow_redirects=False) as answer:
            assert (answer.status, "begin again" in await answer.text()) == (401, True)


PROXY = (
    "stream_server.access.user_header=X-Forwarded-User",
    "stream_server.access.groups_header=X-Forwarded-Groups",
    *GROUPS,
)


@pytest.mark.parametrize(
    ("proxies", "headers", "status"),
    [
        ("127.0.0.1", {"X-Forwarded-User": "anna", "X-Forwarded-Groups": "x, leads"}, 200),
        ("127.0.0.1", {"X-Forwarded-User": "anna", "X-Forwarded-Groups": "x"}, 401),
        ("127.0.0.1", {"X-Forwarded-User": "anna"}, 401),
        ("127.0.0.1", {"X-Forwarded-Groups": "leads"}, 401),
        ("127.0.0.1", {}, 401),
        ("10.9.9.9", {"X-Forwarded-User": "anna", "X-Forwarded-Groups": "leads"}, 403),
        ("10.9.9.9", {"X-Forwarded-Groups": "leads"}, 403),
    ],
)
async def test_a_trusted_proxy_says_who_has_logged_in_and_nobody_else(
    tmp_path: Path, proxies: str, headers: dict[str, str], status: int
):
    trusted = f"stream_server.access.trusted_proxies=[{proxies}]"
    url = "stream_server.listen.host=127.0.0.1"
    async with whole_server(tmp_path, trusted, url, *PROXY) as server:
        async with aiohttp.ClientSession(headers=headers) as session:
            assert (await who(session, server.http_url))[0] == status
            if status != 200:
                return
            async with session.get(f"{server.http_url}/api/v1/config") as answer:
                assert answer.status == 403
            # The client's own header before the proxy's.
            twice = [("X-Forwarded-Groups", "it"), *headers.items()]
            async with aiohttp.ClientSession() as other:
                url = f"{server.http_url}/api/v1/config"
                async with other.get(url, headers=twice) as answer:
                    assert answer.status == 403
                    assert "twice" in await answer.text()
