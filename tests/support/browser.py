"""Chromium as the tests use it: one browser, and pages that remember what went wrong in them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import numpy as np
import pytest
from websockets.asyncio.client import connect

from ser_engine.types import FloatArray

if TYPE_CHECKING:
    from playwright.async_api import Page

__all__ = [
    "BROWSER_TEST",
    "PageLog",
    "at_least",
    "chromium_arguments",
    "chromium_path",
    "stream_clip",
    "watch",
    "write_microphone_wav",
]

BROWSER_TEST = [
    pytest.mark.needs("chromium", "playwright", "shared-data"),
    pytest.mark.asyncio(loop_scope="session"),
]
"""Marks of a module whose tests use ``server``, ``browser`` or ``open_page``."""

_SILENCE_S = 1.0
"""Chromium damages what it plays first."""

_NETWORK = ("net::ERR_", "WebSocket connection to", "Failed to load resource")
"""What a browser itself says of a server that is away; no mistake of the page."""

_REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP violation: ${event.violatedDirective} blocked ${event.blockedURI}`
    + ` at ${event.sourceFile}:${event.lineNumber}`);
});
"""


def chromium_path() -> str:
    """Return the program. Needs ``chromium``."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next(path for path in map(shutil.which, names) if path is not None)


def chromium_arguments(microphone: Path) -> list[str]:
    """Return the arguments of a browser whose microphone plays a WAV file, over and over."""
    return [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone}",
    ]


def at_least(number: int) -> re.Pattern[str]:
    """Return a pattern that whole numbers from ``number``, of up to six digits, match.

    An attribute with such a number is what a test waits for: pages forbid the code that
    Playwright's own ``wait_for_function`` runs in them.
    """
    return re.compile(rf"^(?:{'|'.join(_patterns(number))})$")


def _patterns(number: int) -> list[str]:
    digits = str(number)
    same_length = [
        f"{digits[:place]}[{int(digit) + 1}-9]\\d{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if digit != "9"
    ]
    return [digits, *same_length, f"[1-9]\\d{{{len(digits)},5}}"]


async def stream_clip(url: str, samples: FloatArray, *, role: str, name: str) -> dict[str, Any]:
    """Stream samples as fast as the server takes them and return the ``ready`` it answered."""
    query = urlencode({"sample_rate": 16_000, "roles": role, "name": name})
    audio = (np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()
    async with connect(f"{url}/?{query}", compression=None) as socket:
        ready: dict[str, Any] = json.loads(await socket.recv())
        for start in range(0, len(audio), 32_000):
            await socket.send(audio[start : start + 32_000])
        await socket.send('{"type": "stop"}')
        async for _ in socket:
            pass
    return ready


def write_microphone_wav(path: Path, samples: FloatArray) -> Path:
    """Write what the microphone hears: a second of silence, then the samples, 16 kHz."""
    import soundfile

    silence = np.zeros(round(_SILENCE_S * 16_000), np.float32)
    soundfile.write(path, np.concatenate([silence, samples]), 16_000, subtype="PCM_16")
    return path


@dataclass(slots=True)
class PageLog:
    """What a page complained of.

    Attributes:
        errors: console errors, uncaught exceptions, violations of the content security policy.
        server_may_be_away: whether the browser's own errors about its server are expected.
    """

    errors: list[str] = field(default_factory=list)
    server_may_be_away: bool = False

    def add(self, text: str) -> None:
        """Remember an error."""
        if not (self.server_may_be_away and any(part in text for part in _NETWORK)):
            self.errors.append(text)

    def check(self) -> None:
        """Fail if anything went wrong."""
        assert not self.errors, "\n".join(self.errors)


async def watch(page: Page) -> PageLog:
    """Remember from now on what goes wrong in a page."""
    log = PageLog()
    page.on("pageerror", lambda error: log.add(f"uncaught: {error}"))
    page.on(
        "console",
        lambda message: (
            log.add(f"{message.text} ({message.location.get('url', '')})")
            if message.type == "error" or "Content Security Policy" in message.text
            else None
        ),
    )
    await page.add_init_script(_REPORT_VIOLATIONS)
    return log
