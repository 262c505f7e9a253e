"""Chromium as the tests use it: one browser, and pages that remember what went wrong in them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ser_engine.types import FloatArray

if TYPE_CHECKING:
    from playwright.async_api import Page

__all__ = ["PageLog", "chromium_arguments", "chromium_path", "watch", "write_microphone_wav"]

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
