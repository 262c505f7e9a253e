"""Who may open an AudioHook session, and what the others are told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from ser_engine.errors import ConfigError
from stream_server.access import AccessConfig
from stream_server.config import ServerConfig
from stream_server.platforms import TelephonyConfig
from stream_server.platforms.audiohook import AudioHookConfig
from stream_server.wire.results import StreamOpened
from tests.support.audiohook_client import Genesys
from tests.support.live_lab import Lab, live_lab
from tests.support.virtual_time import virtual_time

KEY = "SGVsbG8sIEkgYW0gdGhlIEFQSSBrZXkh"
SECRET = "TXlTdXBlclNlY3JldEtleVRlbGxOby0xITJAMyM0JDU="


def signed_only(**options: Any) -> ServerConfig:
    """Return settings with a client secret; the delay is the usual one, in virtual time."""
    hook = AudioHookConfig(keys={KEY: SECRET}, max_age_s=300)
    return ServerConfig(telephony=TelephonyConfig(audiohook=hook, **options))


def genesys(lab: Lab, number: int = 1) -> Genesys:
    return Genesys(lab.url + "/audiohook", number)


def signs(platform: Genesys, **options: Any) -> Genesys:
    platform.sign(KEY, SECRET, created_s=time.time(), **options)
    return platform


@virtual_time
async def test_signatures_are_checked():
    async with live_lab(config=signed_only()) as lab:
        async with signs(genesys(lab)).connected() as platform:
            await platform.open()
            assert platform.opened
            await platform.close()
    assert lab.refused == []
    assert sum(isinstance(each, StreamOpened) for each in lab.published) == 1


def tampered(platform: Genesys) -> None:
    platform.headers["Audiohook-Session-Id"] = platform.session_id = platform.conversation_id


def unsigned(platform: Genesys) -> None:
    del platform.headers["Signature"], platform.headers["Signature-Input"]


def expired(platform: Genesys) -> None:
    platform.sign(KEY, SECRET, created_s=time.time() - 400)


def unknown(platform: Genesys) -> None:
    platform.sign("another", SECRET, created_s=time.time())


def with_another_secret(platform: Genesys) -> None:
    platform.sign(KEY, KEY, created_s=time.time())


def with_a_token_instead(platform: Genesys) -> None:
    unsigned(platform)
    platform.headers["Authorization"] = "Bearer let-the-platform-in"


def of_another_organization(platform: Genesys) -> None:
    platform.organization_id = platform.conversation_id


FAILURES = {
    tampered: "made with another secret",
    unsigned: "Signature-Input is missing",
    expired: "older than 300 s",
    unknown: "the key is unknown",
    with_another_secret: "made with another secret",
    with_a_token_instead: "Signature-Input is missing",
    of_another_organization: None,
}
"""How to fail, and what the log says of it; what is wrong with ``open`` is not logged."""


async def refuse_all(lab: Lab) -> AsyncIterator[tuple[dict[str, Any] | None, float]]:
    """Yield what is told of every failure and the time it takes; at last of a replay."""
    loop = asyncio.get_running_loop()
    for fail in (*FAILURES, None):
        platform = genesys(lab) if fail is None else genesys(lab, 2)
        signs(platform, nonce=("" if fail is None else fail.__name__) + "n" * 22)
        if fail is not None:
            fail(platform)
        async with platform.connected():
            began_s = loop.time()
            await platform.open()
            yield platform.disconnected, round(loop.time() - began_s, 6)
            await platform.close("disconnect")


@virtual_time
async def test_every_refusal_looks_and_takes_the_same():
    """The first, which is let in, is used again: a replay."""
    config = replace(
        signed_only(),
        access=AccessConfig(tokens={"a": "let-the-platform-in"}, refusal_delay_ms=700),
    )
    with capture_logs() as logs:
        async with live_lab(config=config) as lab:
            async with signs(genesys(lab)).connected() as platform:
                await platform.open()
                await platform.close()
            seen = [each async for each in refuse_all(lab)]
    expected = [
        why for why in (*FAILURES.values(), "its nonce was used already") if why is not None
    ]
    reasons = [each["reason"] for each in logs if each["event"] == "audiohook_unauthorized"]
    # Each reason once: a flood of refusals is none of the log.
    assert len(reasons) == len(set(reasons))
    assert all(any(why in reason for reason in reasons) for why in expected)
    assert seen == [({"reason": "unauthorized"}, 0.7)] * (len(FAILURES) + 1)
    assert lab.refused == ["unauthorized"] * len(seen)
    assert sum(isinstance(each, StreamOpened) for each in lab.published) == 1


@virtual_time
async def test_no_audio_is_read_of_who_is_not_authorized():
    async with live_lab(config=signed_only()) as lab, genesys(lab).connected() as platform:
        await platform.send_audio(bytes(3200), pings=False)
        await platform.hear_until("disconnect")
        assert platform.disconnected == {"reason": "unauthorized"}
        await platform.close("disconnect")
    assert lab.published == []


@virtual_time
async def test_behind_a_proxy_the_public_host_is_signed():
    config = signed_only(public_url="wss://monitor.example.org")
    async with live_lab(config=config) as lab:
        platform = genesys(lab)
        inside, platform.url = platform.url, "wss://monitor.example.org/audiohook"
        signs(platform)
        platform.url = inside
        async with platform.connected():
            await platform.open()
            assert platform.opened
            await platform.close()


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("", {"X-API-KEY": "let-the-platform-in"}),
        ("/let-the-platform-in", {"X-API-KEY": "of-no-use-here"}),
        ("", {"Authorization": "Bearer let-the-platform-in"}),
    ],
)
@pytest.mark.parametrize("is_right", [True, False])
@virtual_time
async def test_without_a_secret_a_token_is_asked_for(
    path: str, headers: dict[str, str], is_right: bool
):
    token = "let-the-platform-in" if is_right else "no-such-token-as-that"
    # Loopback clients need none, unless they came through the proxy: the public name says so.
    config = ServerConfig(
        access=AccessConfig(tokens={"genesys": token}, refusal_delay_ms=0),
        telephony=TelephonyConfig(public_url="ws://127.0.0.1"),
    )
    async with live_lab(config=config) as lab:
        platform = Genesys(lab.url + "/audiohook" + path, headers=headers)
        async with platform.connected():
            await platform.open()
            assert bool(platform.opened) == is_right
            await platform.close()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"keys": {"key": ""}}, "secret 1 of telephony.audiohook.keys is empty"),
        ({"keys": {"key": "no Base64"}}, "secret 1 of telephony.audiohook.keys is not Base64"),
        ({"max_age_s": 0.5}, "max_age_s"),
        ({"event_interval_ms": 100}, "event_interval_ms"),
    ],
)
def test_settings_that_do_not_hold(settings: dict[str, Any], expected: str):
    with pytest.raises(ConfigError, match=expected):
        AudioHookConfig(**settings)


def test_secrets_are_not_shown():
    assert SECRET not in repr(signed_only())
