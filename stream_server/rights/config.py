"""The settings of consent, notice, objection and oversight."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

from ser_engine.config import Range, check_fields
from ser_engine.errors import ConfigError

_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_MAX_NOTICE = 4000


@dataclass(frozen=True, slots=True)
class RightsConfig:
    """Consent, notice, objection and oversight. See docs/privacy.md."""

    require_consent: bool = False
    """Analyse and record a stream only while it says that consent was given. Where it was refused
    nothing is analysed in any case."""
    require_notice: Literal["no", "pause", "refuse"] = "no"
    """What happens to a stream that does not say that notice was given, in the version
    ``notice_version`` if that is set: nothing, it waits unanalysed, or it is not begun."""
    notice_version: str = ""
    """Version of the notice, e.g. 2026-11."""
    notice_texts: dict[str, str] = field(default_factory=dict)
    """The notice by language, e.g. {en: This call is analysed …}. Pages of this server show it
    before they open the browser's microphone."""
    objection_key: str = ""
    """Key of the telephone by which a caller objects, e.g. 9, on platforms that report keys; the
    stream ends and what was kept of it is erased. "": none."""
    overseers: tuple[str, ...] = ()
    """Names of the people who oversee the system. They, and admins, may halt all analysis and
    override alerts."""
    pseudonymised_metadata: tuple[str, ...] = ()
    """Names of metadata whose values are replaced by a hash with a key of this installation before
    anything is shown, published or stored, e.g. [caller, from]; people are found by them all the
    same."""
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
