"""What the store tells of streams and alerts, beyond the results themselves."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from ser_engine.frames import samples_to_s
from ser_engine.schema import CloseReason, ModelNotice, Severity
from stream_server.wire.results import ConsentStatus, Result, StreamChannel, Summary

ResultKind = Literal[
    "stream_opened",
    "point",
    "segment",
    "gap",
    "marked",
    "alert",
    "warning",
    "measures",
    "consent",
    "summary",
    "stream_closed",
]
"""The ``type`` of results that are kept; ``flushed`` is not."""

Verdict = Literal["right", "wrong"]

AlertFilter = Literal["raised", "cleared", "unacknowledged", "acknowledged"]
"""``raised``: not cleared yet. ``unacknowledged``: whether cleared or not."""

JobState = Literal["waiting", "running", "done", "failed", "cancelled"]
"""How far a file is that is analysed on request; the last three are final."""


class StreamRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A stream, live or ended.

    Attributes:
        name, channels, model, labels, metadata, sample_rate, encoding, step_ms, opened_at,
            continues, team, model_sha256: as in :class:`~stream_server.wire.results.StreamOpened`.
        closed_at: seconds since 1970, UTC; None: it is live.
        duration_s: length of its clock, once it has ended.
        summary: where it ended in order.
        consent, notice_version: what was told last.
        speakers: what people call its speakers: by channel, by the speaker's name in results.
    """

    stream_id: str
    name: str
    channels: tuple[StreamChannel, ...]
    model: ModelNotice
    labels: tuple[str, ...]
    metadata: dict[str, str]
    sample_rate: int
    encoding: str
    step_ms: int
    opened_at: float
    continues: str | None
    closed_at: float | None
    reason: CloseReason | None
    duration_s: float | None
    summary: Summary | None
    team: str = ""
    model_sha256: str = ""
    consent: ConsentStatus = "unknown"
    notice_version: str = ""
    speakers: dict[str, dict[str, str]] = {}

    @property
    def is_live(self) -> bool:
        """Whether it has not ended."""
        return self.closed_at is None

    def speaker_names(self) -> dict[str, dict[str, str]]:
        """Return what its speakers are called, by channel and name in results.

        A voice that turned out to be another's is called as that one, unless it has a name of its
        own.
        """
        measures = self.summary.measures if self.summary else None
        names = {index: dict(called) for index, called in self.speakers.items()}
        for channel in measures.channels if measures else ():
            called = names.setdefault(str(channel.channel), {})
            for speaker in channel.speakers or ():
                if speaker.same_as:
                    called.setdefault(speaker.name, called.get(speaker.same_as, speaker.same_as))
        return names


class StoredResults(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of a stream at one moment.

    Attributes:
        results: in order of ``seq``. Interim versions of segments and gaps that were replaced are
            not among them, nor are the frames of points.
        last_seq: everything of the stream up to here is stored, -1: nothing. Who subscribed before
            asking for this takes what it then gets from the bus with a larger ``seq``.
        is_complete: False: there are more results, beyond ``limit``; ask again with ``after_seq``
            the ``seq`` of the last one.
    """

    results: tuple[Result, ...]
    last_seq: int
    is_complete: bool


class Annotation(msgspec.Struct, frozen=True, kw_only=True):
    """What a person hears in a part of a channel.

    Attributes:
        who: whose tier it is in; within a tier of a channel none overlap.
        start_sample, end_sample: of the part, 16 kHz.
        label: a class of the model, or ``unclear``.
        at: when it was said, seconds since 1970.
    """

    who: str
    channel: int
    start_sample: int
    end_sample: int
    label: str
    at: float


class AlertRecord(msgspec.Struct, frozen=True, kw_only=True):
    """An alert from when it was raised on.

    Attributes:
        stream_name: of its stream.
        labels: the labels its rule watches.
        posterior: sum of their smoothed posteriors when it was raised, 0 to 1.
        since_sample: where the condition began to hold, on the stream's 16 kHz clock.
        raised_sample, cleared_sample: where it was raised and cleared.
        raised_at, cleared_at, acknowledged_at: when, seconds since 1970, UTC; None: not yet.
        acknowledged_note: what was noted then.
        acknowledged_by: who did; None: nobody yet, or before names were kept.
        assigned_to: who is to deal with it; None: nobody in particular.
        verdict: whether it was right, as somebody judged; None: nobody has.
        measures: those that its rule asks for: what they were when it was raised or cleared,
            whichever is more.
    """

    alert_id: str
    stream_id: str
    stream_name: str
    rule: str
    severity: Severity
    channel: int
    role: str
    labels: tuple[str, ...]
    posterior: float
    since_sample: int
    raised_sample: int
    raised_at: float
    cleared_sample: int | None
    cleared_at: float | None
    acknowledged_at: float | None
    acknowledged_note: str | None
    acknowledged_by: str | None = None
    assigned_to: str | None = None
    verdict: Verdict | None = None
    measures: dict[str, float] = {}

    @property
    def since_s(self) -> float:
        """Where the condition began to hold, s of the stream."""
        return samples_to_s(self.since_sample)

    @property
    def raised_s(self) -> float:
        """Where it was raised, s of the stream."""
        return samples_to_s(self.raised_sample)

    @property
    def cleared_s(self) -> float | None:
        """Where it was cleared, s of the stream; None: it holds."""
        return None if self.cleared_sample is None else samples_to_s(self.cleared_sample)


class JobRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is analysed on request.

    Attributes:
        job_id: random, so that it cannot be guessed.
        name: of the file, as its owner calls it; never a path.
        progress: 0 to 1; behind by a second where it runs.
        created_at, started_at, finished_at: seconds since 1970, UTC; None: not yet.
        duration_s: of the recording, once known.
        error_code, error: why it failed, for programs and for people.
        folder: of its result, below the server's own; None: it has no result.
        kept_bytes: what that folder takes.
        summary: of the result, for lists.
        cache_key: of the same bytes, model and settings.
        team: whose file it is; "": of no team.
        metadata: what its sender said of it.
        labels: what people hear in it: by who, by channel, a list of start, end (s) and label.
        speakers: as of :class:`StreamRecord`; None: nobody has named one.
    """

    job_id: str
    name: str
    options: dict[str, Any]
    state: JobState = "waiting"
    progress: float = 0.0
    attempts: int = 0
    size_bytes: int
    created_at: float
    started_at: float | None = None
    finished_at: float | None = None
    duration_s: float | None = None
    error_code: str | None = None
    error: str | None = None
    folder: str | None = None
    kept_bytes: int = 0
    summary: dict[str, Any] | None = None
    cache_key: str | None = None
    team: str = ""
    metadata: dict[str, str] | None = None
    labels: dict[str, dict[str, list[tuple[float, float, str]]]] | None = None
    speakers: dict[str, dict[str, str]] | None = None

    @property
    def is_final(self) -> bool:
        """Whether nothing more becomes of it."""
        return self.state not in ("waiting", "running")


def with_name(
    speakers: dict[str, dict[str, str]] | None, channel: int, speaker: str, name: str
) -> dict[str, dict[str, str]] | None:
    """Return names of speakers with one of them said anew.

    ``name`` "": nothing, from now on.
    """
    named = {index: dict(names) for index, names in (speakers or {}).items()}
    of_channel = named.setdefault(str(channel), {})
    of_channel.pop(speaker, None)
    if name:
        of_channel[speaker] = name
    return {index: names for index, names in named.items() if names} or None
