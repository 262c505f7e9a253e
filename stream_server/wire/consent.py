"""What is known of a person's consent, and of the notice that was given: told, checked, kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ConsentStatus = Literal["given", "refused", "unknown"]
"""``unknown``: nobody has said."""

STATUSES: tuple[ConsentStatus, ...] = get_args(ConsentStatus)


@dataclass(frozen=True, slots=True)
class Standing:
    """What is known of the people in a stream.

    Attributes:
        consent: whether they agreed.
        source: who or what says so, e.g. ``ivr``, ``checkbox``, ``api:crm``; "": not told.
        notice_version: which version of the notice they were given; "": none that is known of.
        notice_language: its language; "": not told.
        notice_how: how it was given, e.g. ``spoken``, ``shown``; "": not told.
    """

    consent: ConsentStatus = "unknown"
    source: str = ""
    notice_version: str = ""
    notice_language: str = ""
    notice_how: str = ""

    def changed(
        self,
        *,
        consent: str | None = None,
        source: str | None = None,
        notice_version: str | None = None,
        notice_language: str | None = None,
        notice_how: str | None = None,
    ) -> Standing:
        """Return it with what was told since; None: nothing was said of that.

        Raises:
            ValueError: there is no such consent.
        """
        if consent is not None and consent not in STATUSES:
            raise ValueError(f"got another consent, expected one of {', '.join(STATUSES)}")
        # A source belongs to what it says; it is not that of a later word.
        new_source = source if source is not None else ("" if consent is not None else self.source)
        return Standing(
            consent=self.consent if consent is None else consent,
            source=new_source,
            notice_version=self.notice_version if notice_version is None else notice_version,
            notice_language=self.notice_language if notice_language is None else notice_language,
            notice_how=self.notice_how if notice_how is None else notice_how,
        )


NOTHING_TOLD = Standing()
