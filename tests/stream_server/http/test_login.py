"""A browser that is asked for a token."""

from __future__ import annotations

import pytest

from stream_server.access import SESSION_COOKIE, session_of
from tests.stream_server.http.test_http import TOKEN, serving

PAGE = {"Accept": "text/html,application/xhtml+xml"}


async def test_a_person_is_shown_a_form_a_program_an_error():
    async with serving("0.0.0.0") as client:
        answer = await client.get("/who?a=1", headers=PAGE)
        assert answer.status == 401
        assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        # With no-referrer a browser would send the form with the Origin "null", which is refused.
        assert answer.headers["Referrer-Policy"] == "same-origin"
        text = await answer.text()
        assert 'name="next" value="/who?a=1"' in text
        assert "token is not valid" not in text
        assert (await (await client.get("/who")).json())["code"] == "unauthorized"
        assert (await client.post("/who", headers=PAGE)).content_type == "application/json"


async def test_a_token_opens_the_page_that_was_asked_for():
    async with serving("0.0.0.0") as client:
        form = {"token": f" {TOKEN} ", "next": "/who"}
        answer = await client.post("/login", data=form, allow_redirects=False)
        assert (answer.status, answer.headers["Location"]) == (303, "./who")
        cookie = answer.cookies[SESSION_COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        assert not cookie["max-age"]
        headers = {"Cookie": f"{SESSION_COOKIE}={cookie.value}"}
        assert (await (await client.get("/who", headers=headers)).json())["name"] == "crm"
        assert TOKEN not in cookie.value


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost"])
@pytest.mark.parametrize("token", ["wrong-0123456789abcdef", ""])
async def test_a_wrong_token_is_said_so(host: str, token: str):
    async with serving(host) as client:
        answer = await client.post("/login", data={"token": token}, allow_redirects=False)
        assert answer.status == 401
        assert "token is not valid" in await answer.text()
        assert SESSION_COOKIE not in answer.cookies


@pytest.mark.parametrize(
    "elsewhere", ["https://evil.example", "//evil.example", "/\\evil.example", "", "/\r\nX: 1"]
)
async def test_nobody_is_led_elsewhere(elsewhere: str):
    async with serving("0.0.0.0") as client:
        form = {"token": TOKEN, "next": elsewhere}
        answer = await client.post("/login", data=form, allow_redirects=False)
        assert answer.headers["Location"] == "./"


async def test_what_was_asked_for_is_escaped():
    async with serving("0.0.0.0") as client:
        text = await (await client.get('/"><script>x</script>', headers=PAGE)).text()
        assert "<script>" not in text


async def test_another_site_cannot_log_anybody_in():
    async with serving("0.0.0.0") as client:
        headers = {"Origin": "https://evil.example"}
        answer = await client.post("/login", data={"token": TOKEN}, headers=headers)
        assert answer.status == 403


@pytest.mark.parametrize(
    ("header", "token"),
    [
        (None, None),
        ("", None),
        ("a=b", None),
        (f"{SESSION_COOKIE}=", None),
        (f"a=b; {SESSION_COOKIE}=x%2Fy; c=d", "x/y"),
        (f"{SESSION_COOKIE}2=x", None),
    ],
)
def test_the_cookie_is_read(header: str | None, token: str | None):
    assert session_of(header) == token
