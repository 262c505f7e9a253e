"""The rights of those who are analysed, and the oversight of what is done: docs/how-to/privacy.md.

:func:`withheld` decides whether a stream may be analysed; it is pure. :class:`Rights` is the state
of one server: its policy, and whether an overseer has halted all analysis.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

import msgspec

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError
from ser_engine.schema import GapReason
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import Standing

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_MAX_NOTICE = 4000
_HASH_PREFIX = "hmac:"
_HASH_DIGITS = 32


@dataclass(frozen=True, slots=True)
class RightsConfig:
    """Consent, notice, objection and oversight. See docs/how-to/privacy.md."""

    require_consent: bool = False
    """Analyse and record a stream only while it says that consent was given. After a refusal
    nothing is analysed in any case."""
    require_notice: Literal["no", "pause", "refuse"] = "no"
    """What happens to a stream that does not say that notice was given (in the version
    notice_version, if that is set). no: nothing; pause: it is not analysed until then; refuse: it
    is refused."""
    notice_version: str = ""
    """Version of the notice, e.g. 2026-11."""
    notice_texts: dict[str, str] = field(default_factory=dict)
    """The notice by language, e.g. {en: This call is analysed …}. Pages of this server show it
    before they open the browser's microphone."""
    objection_key: str = ""
    """Telephone key with which a caller objects, e.g. 9, on platforms that report keys; the stream
    ends and everything kept of it is erased. "": none."""
    overseers: tuple[str, ...] = ()
    """Names of the people who oversee the system. They, and admins, may halt all analysis and
    override alerts."""
    pseudonymised_metadata: tuple[str, ...] = ()
    """Names of metadata whose values are replaced by a hash with a key of this installation before
    anything is shown, published or stored, e.g. [caller, from]; you can still find people by these
    values."""
    decision_retention_days: Annotated[float, Range(1, 36_500)] = 183.0
    """Age at which the log of decisions and the ledger of notices are deleted."""

    def __post_init__(self) -> None:
        check_fields(self, "rights")
        if self.objection_key and self.objection_key not in "0123456789*#ABCD":
            raise ConfigError(
                f"got rights.objection_key '{self.objection_key}', expected one of 0 to 9, *, #"
            )
        for language, text in self.notice_texts.items():
            if not _LANGUAGE.fullmatch(language) or not 0 < len(text) <= _MAX_NOTICE:
                raise ConfigError(
                    f"got a text of {len(text)} characters for rights.notice_texts.{language},"
                    f" expected a language such as en and 1 to {_MAX_NOTICE} characters"
                )
        if self.notice_texts and not self.notice_version:
            raise ConfigError(
                "got rights.notice_texts without rights.notice_version, expected the version that"
                " the ledger says was given"
            )


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

    Attributes:
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
            version = f" of '{config.notice_version}'" if config.notice_version else ""
            raise ProtocolError(
                ErrorCode.NO_NOTICE,
                f"got no word that notice was given, expected a notice_version{version}",
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
