"""Whether a stream may be analysed now, and what stops all of them."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import Callable, Mapping

import msgspec

from ser_engine.schema import GapReason
from stream_server.rights.config import RightsConfig
from stream_server.wire.consent import Standing
from stream_server.wire.errors import ErrorCode, ProtocolError

_HASH_PREFIX = "hmac:"
_HASH_DIGITS = 32


class Halt(msgspec.Struct, frozen=True, kw_only=True):
    """An overseer halted all analysis, or let it go on.

    Attributes:
        halted: False: it goes on.
        at: seconds since 1970, UTC.
        by: who did it.
        reason: in their words.
    """

    halted: bool = False
    at: float = 0.0
    by: str = ""
    reason: str = ""


def has_notice(standing: Standing, config: RightsConfig) -> bool:
    """Whether notice was given, in the present version where the settings name one."""
    if config.notice_version:
        return standing.notice_version == config.notice_version
    return bool(standing.notice_version)


def withheld(standing: Standing, config: RightsConfig, *, is_halted: bool) -> GapReason | None:
    """Return why nothing of a stream may be analysed or recorded now; None: it may."""
    if is_halted:
        return "halted"
    if standing.consent == "refused" or (config.require_consent and standing.consent != "given"):
        return "no_consent"
    if config.require_notice != "no" and not has_notice(standing, config):
        return "no_notice"
    return None


class Rights:
    """The policy of one server and its state.

    Args:
        config: the settings.

    Attributes:
        config: the settings.
        person_key: of the installation, for hashes of metadata; None: there is no store yet.
        on_change: called when all analysis is halted or goes on.
    """

    def __init__(self, config: RightsConfig | None = None) -> None:
        self.config = config or RightsConfig()
        self.person_key: bytes | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._halt = Halt()
        self._goes_on = asyncio.Event()
        self._goes_on.set()

    @property
    def halt(self) -> Halt:
        """The last word of an overseer."""
        return self._halt

    def set_halt(self, halt: Halt) -> None:
        """Halt all analysis, or let it go on."""
        if halt == self._halt:
            return
        self._halt = halt
        if halt.halted:
            self._goes_on.clear()
        else:
            self._goes_on.set()
        self.on_change()

    async def wait_until_allowed(self) -> None:
        """Return at once unless all analysis is halted, else when it goes on."""
        await self._goes_on.wait()

    def withheld(self, standing: Standing) -> GapReason | None:
        """Return why nothing of a stream may be analysed or recorded now; None: it may."""
        return withheld(standing, self.config, is_halted=self._halt.halted)

    def check_start(self, standing: Standing) -> None:
        """Refuse a stream that may not begin without notice.

        Raises:
            ProtocolError: NO_NOTICE.
        """
        config = self.config
        if config.require_notice == "refuse" and not has_notice(standing, config):
            version = f" in the version '{config.notice_version}'" if config.notice_version else ""
            raise ProtocolError(
                ErrorCode.NO_NOTICE, f"got no word that notice was given, expected it{version}"
            )

    def pseudonymised(self, metadata: Mapping[str, str]) -> dict[str, str]:
        """Return metadata with hashes in the place of what may not be kept as it is."""
        hidden = self.config.pseudonymised_metadata
        return {
            name: self.hashed(value) if name in hidden else value
            for name, value in metadata.items()
        }

    def hashed(self, value: str) -> str:
        """Return the hash of a value, the same for the same value in this installation only."""
        if self.person_key is None:
            # Without a store nobody can be found later: a value that says nothing will do.
            return _HASH_PREFIX
        if value.startswith(_HASH_PREFIX):
            return value
        digest = hmac.new(self.person_key, value.strip().encode(), hashlib.sha256).hexdigest()
        return _HASH_PREFIX + digest[:_HASH_DIGITS]
