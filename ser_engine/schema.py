"""What is found in audio: the one definition of every result, for all who make, send or keep it.

The engine's streaming core emits these structs; a server adds which stream they are about
(:mod:`stream_server.wire.results`), the store keeps them as rows, and the analysis of a file is
made of them. Field names, units and the JSON form are fixed here and nowhere else.

**Doubt.** A result has a ``label`` only where it is worth believing. It is None (null) where the
result is ``unclear``, because the posterior is below the model's ``abstain_below`` (setting
``smoothing.abstain_below``; neutral needs less: :func:`ser_engine.labels.least_posterior`).
``best`` is the likeliest class all the same, ``confidence`` its posterior; they and the posteriors
are for programs. Unclear is neither silence, which is a gap, nor ``unknown``, which is a class of
some models.

Positions are sample indices of a stream's clock at 16 kHz, counted from 0; an end is not included.
``*_s`` repeats a position in seconds, for readers without a clock of their own. Posteriors are 0 to
1, in the order of the model's labels, and published with six decimals.

Segments and gaps with ``final`` set tile a stream: they start at 0, do not overlap, leave nothing
out and end where the stream ends::

    audio      ~~~~silence~~~~ speech speech speech ~~~~ speech speech speech speech
    windows                  ^           ^           ^           ^          ^
    points                   [--point---)[--point---)[---point--)[--point--)
    tiling     [----gap------)[----segment happy----)[gap)[-happy-)[---segment sad---

No module of ours but :mod:`ser_engine.frames` is imported: clients and protocols use this one, and
have no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import force_setattr

from ser_engine.frames import samples_to_s

POSTERIOR_DECIMALS = 6
"""Digits of published posteriors: a hundredth of what int8 or cached features change."""


def rounded(posterior: float) -> float:
    """Return a posterior, confidence or share as it is published."""
    return round(posterior, POSTERIOR_DECIMALS)


def rounded_all(posteriors: Iterable[float]) -> tuple[float, ...]:
    """Return posteriors as they are published."""
    return tuple([round(posterior, POSTERIOR_DECIMALS) for posterior in posteriors])


GapReason = Literal[
    "silence",
    "tone",
    "music",
    "too_short",
    "overload",
    "error",
    "paused",
    "discarded",
    "lost",
    "no_consent",
    "no_notice",
    "halted",
    "left_out",
]
"""Why a span has no result.

``silence``: the detector heard no speech. ``tone``: it heard a tone of the telephone network
(dial, ringing, busy, keys, fax), or a pause between such tones. ``music``: it heard no speech but
music, for some seconds. ``too_short``: fewer than 400 samples between two interruptions.
``overload``: windows were skipped until no window held the audio any more. ``error``: the engine
could not score the window. ``paused``, ``discarded``, ``lost``: the audio never came; the client or
the network says which. ``no_consent``, ``no_notice``, ``halted``: it came and was neither scored
nor recorded, because consent or notice is missing, or an overseer has halted all analysis.
``left_out``: somebody speaks who is not analysed, in a channel whose speakers are told apart.
"""

FileWarningCode = Literal[
    "clipping",
    "too_quiet",
    "noisy",
    "narrow_band",
    "silent",
    "short",
    "length",
    "mixed_speakers",
]
"""What can be wrong with the audio of a file. ``silent``: no speech; ``short``: less than 1 s;
``length``: its header tells of another length, or the audio is cut off."""

StreamWarningCode = Literal[
    "clipping",
    "too_quiet",
    "noisy",
    "narrow_band",
    "faster_than_real_time",
    "results_dropped",
    "packet_loss",
    "clock_drift",
    "mixed_speakers",
]
"""What can be wrong with a stream; version 1 of the protocol has these. ``mixed_speakers``: a
channel of the role ``mixed`` is analysed, whoever speaks in it."""

MIXED_ROLE = "mixed"
"""Of a channel that holds several people's speech, such as a mono recording of a call."""

MIXED_MESSAGE = (
    "several people share this channel, and all of them are analysed, agents too; give each side a"
    " channel of its own"
)
"""Of the warning ``mixed_speakers``. It is not given where the agent among them is left out."""

WarningCode = Literal[FileWarningCode, StreamWarningCode]

Severity = Literal["info", "warning", "critical"]
AlertState = Literal["raised", "cleared"]
CloseReason = Literal[
    "stopped",  # the client asked
    "client_lost",  # it did not come back in time
    "idle",
    "too_long",
    "too_many_messages",
    "slow_consumer",
    "protocol_error",
    "server_stopped",
    "engine_failed",
    "internal",
    "objected",  # a person in it objected; what was kept is erased
]
"""Why a stream ended."""


class Span(msgspec.Struct, frozen=True, kw_only=True):
    """Audio of one channel between two samples.

    Attributes:
        start_sample: first sample.
        end_sample: end, not included.
        start_s, end_s: the same in seconds; set from the samples, whatever is given.
    """

    start_sample: int
    end_sample: int
    start_s: float = 0.0
    end_s: float = 0.0

    def __post_init__(self) -> None:
        # Set here, so that no maker of a span can let seconds and samples disagree.
        force_setattr(self, "start_s", samples_to_s(self.start_sample))
        force_setattr(self, "end_s", samples_to_s(self.end_sample))


class Frames(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Successive frames, column by column. Frames without speech may be left out.

    Attributes:
        start_samples: where each frame's slot starts.
        hop_samples: length of a slot: 320 (20 ms) or 160; more where frames were averaged.
        posteriors: ``(frames, classes)``. In a point pooled over the trailing span; in a file's
            result each frame's own, nothing is smoothed.
        labels: the label at each frame: in a point the stable one, in a file's result the
            strongest class. None: unclear, or no speech.
        speech: how much of each slot is speech, 0 to 1; () and left out of JSON in a point, which
            has speech frames only.
    """

    start_samples: tuple[int, ...]
    hop_samples: int
    posteriors: tuple[tuple[float, ...], ...]
    labels: tuple[str | None, ...]
    speech: tuple[float, ...] = ()


class Point(Span, frozen=True, kw_only=True):
    """The state of one channel, published for every boundary whose slots hold speech.

    Attributes:
        start_sample: start of the audio this point is the first to describe.
        end_sample: its end; a regular point ends one look-ahead before its boundary.
        posteriors: one value a class, sum 1: the logits of the speech frames in the smoothing span
            that ends with the point's last speech frame, pooled, then softmax.
        label: the stable label at the last speech frame; None: unclear. It is never revised: a
            segment may date a change back to before points that still carry the former label.
        best: ``label``, or where that is None the strongest class.
        confidence: posterior of ``best``. Not always the largest: hysteresis holds a label until
            a change has lasted. With the label of an emotion never below ``abstain_below``; without
            a label it may be above, until it has lasted.
        speech_share: speech frames over all frames of the point, above 0, at most 1.
        provisional: the window held less audio than ``timeline.provisional_below_ms``.
        widened: earlier windows were skipped (overload), so the point covers more than one step.
        narrow_band: the audio holds nothing above 4 kHz, as on the telephone.
        speaker: who speaks, where a live stream's speakers are told apart; left out where that is
            not known.
        frames: the speech frames, where they were asked for.
    """

    posteriors: tuple[float, ...]
    label: str | None
    best: str = ""
    confidence: float
    speech_share: float
    provisional: bool
    widened: bool
    narrow_band: bool = False
    speaker: str | UnsetType = UNSET
    frames: Frames | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _complete_best(self)


class Segment(Span, frozen=True, kw_only=True):
    """Consecutive scored time with one stable label, or with none.

    Attributes:
        start_sample: where the label began to hold; a change is dated back to its first frame.
        end_sample: where it stopped to hold, or up to where it is certain while it goes on.
        label: name of the class; None: unclear.
        best: ``label``, or where that is None the class with the largest mean posterior.
        confidence: mean over the segment's frames of the posterior of ``best``.
        final: False while the segment goes on. A later event with the same ``start_sample`` and
            label and a later end replaces it; the last one is final.
        speaker: as of :class:`Point`; a segment ends where another speaker begins.
    """

    label: str | None
    best: str = ""
    confidence: float
    final: bool
    speaker: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        super().__post_init__()
        _complete_best(self)


def _complete_best(result: Point | Segment) -> None:
    # What was written before there was a "best" has a label always.
    if not result.best and result.label is not None:
        force_setattr(result, "best", result.label)


class Gap(Span, frozen=True, kw_only=True):
    """Consecutive time without a result.

    Attributes:
        reason: why, see :data:`GapReason`.
        final: False while the gap goes on, as for :class:`Segment`.
    """

    reason: GapReason
    final: bool


Event = Point | Segment | Gap
"""What the streaming core says of a channel."""


class Warning(msgspec.Struct, frozen=True, kw_only=True):
    """The audio or the client is not as it should be; results may be worse.

    Attributes:
        code: for programs.
        message: for people, with figures and units.
        at_s: where it was first noticed, on the stream's clock.
    """

    code: WarningCode
    message: str
    at_s: float


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A rule of the settings holds, or holds no more.

    Attributes:
        alert_id: names the alert; raised and cleared carry the same.
        rule: name of the rule.
        severity: of the rule.
        channel, role: whose speech it is about.
        labels: the labels the rule watches.
        posterior: sum of their smoothed posteriors when it was raised or cleared.
        since_sample: where the condition began to hold.
        at_sample: where it was raised or cleared.
        since_s, at_s: the same in seconds; set from the samples, whatever is given.
        lasting: how the channel had been for the last half minute of speech then. Left out where it
            is not known: it is not stored.
        measures: the figures that the rule asks for besides, as they were then; those that were
            not known are left out, and so are all of a rule that asks for none.
    """

    alert_id: str
    rule: str
    state: AlertState
    severity: Severity
    channel: int
    role: str
    labels: tuple[str, ...]
    posterior: float
    since_sample: int
    at_sample: int
    since_s: float = 0.0
    at_s: float = 0.0
    lasting: LastingState | UnsetType = UNSET
    measures: dict[str, float] | UnsetType = UNSET

    def __post_init__(self) -> None:
        force_setattr(self, "since_s", samples_to_s(self.since_sample))
        force_setattr(self, "at_s", samples_to_s(self.at_sample))


class Shares(msgspec.Struct, frozen=True, kw_only=True):
    """How the time of a channel, or of a part of it, was spent.

    Attributes:
        duration_s: length of all of it.
        speech_s: time in segments, or in pieces with speech.
        labels: share of the speech by label, 0 to 1; those that never occur are left out.
        unclear: share of the speech without a label. With ``labels`` it adds up to 1, where there
            is any speech.
        silence: share of all time without speech (gaps ``silence``, ``tone`` and
            ``too_short``).
        left_out: share of all time in which somebody spoke who is not analysed (gaps
            ``left_out``); left out where there is none.
        missing: share of all time in the other gaps.
    """

    duration_s: float
    speech_s: float
    labels: dict[str, float]
    unclear: float
    silence: float
    missing: float
    left_out: float | UnsetType = UNSET


class Whole(msgspec.Struct, frozen=True, kw_only=True):
    """A channel as a whole.

    Attributes:
        shares: of all of it.
        quarters: of each quarter of the time.
        trend: by label (its share in the last quarter - its share in the first) / 2, -0.5 to 0.5;
            {}: one of the two has no speech.
    """

    shares: Shares
    quarters: tuple[Shares, ...]
    trend: dict[str, float]


class LastingState(msgspec.Struct, frozen=True, kw_only=True):
    """How a channel has been for the last half minute of speech, beside the label of the moment.

    Attributes:
        label: what most of it was; None: mixed, unclear, or too little speech so far.
        since_s: where that began, s of the stream.
        before: the state before, however long ago; None: there was none.
        before_until_s: where that ended.
    """

    label: str | None = None
    since_s: float | None = None
    before: str | None = None
    before_until_s: float | None = None


class Voice(msgspec.Struct, frozen=True, kw_only=True):
    """How a stretch of speech sounds; None: too little speech to say.

    Attributes:
        speech_s: how much speech it is.
        level_dbfs: RMS level, dB of full scale.
        syllables_per_s: syllable nuclei a second of speech.
        pitch_hz: median.
        pitch_range_st: from the 10th to the 90th percentile, in semitones.
    """

    speech_s: float
    level_dbfs: float | None = None
    syllables_per_s: float | None = None
    pitch_hz: float | None = None
    pitch_range_st: float | None = None


_OWN_FIGURES = (
    *("talk_s", "talk_share", "turns", "longest_turn_s"),
    *("interruptions", "interrupted", "interrupted_lately"),
)
_CHANGES = ("level_change_db", "pitch_change_st", "range_change_st", "rate_change")
MEASURE_NAMES = _OWN_FIGURES + _CHANGES
"""Figures of a channel that a rule may ask for."""


class SpeakerMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """What one speaker of a channel has said, where a live stream's speakers are told apart.

    Attributes:
        name: ``speaker 1`` for the first who spoke; it is never given to another.
        talk_s: time with speech of this speaker.
        talk_share: of the speech in the channel, 0 to 1; the rest is of nobody who is known.
        left_out: the speaker is not analysed: an agent.
        labels: share of the speech by label, 0 to 1, of points; those that never occur are left
            out.
        unclear: share of it without a label.
        same_as: the speaker whom this one turned out to be; left out where it is somebody else.
            What was published before keeps its name.
    """

    name: str
    talk_s: float
    talk_share: float
    left_out: bool
    labels: dict[str, float]
    unclear: float
    same_as: str | UnsetType = UNSET


class ChannelMeasures(msgspec.Struct, frozen=True, kw_only=True):
    """What one channel has done in a conversation, from its start on.

    Attributes:
        talk_s: time with speech.
        talk_share: of the talk time of all channels, 0 to 1.
        turns: times it took the floor.
        longest_turn_s: the longest of them.
        interruptions: times it interrupted another.
        interrupted: times it was interrupted.
        interrupted_lately: of these in the last 60 s.
        voice: all its speech; None, like the next two: the role is not analysed, only when it
            speaks is measured.
        start: its first 30 s of speech; None: less so far.
        recent: its last 30 s of speech after those; None: none yet.
        speakers: of a channel whose speakers are told apart, in the order they first spoke; left
            out of others.
    """

    channel: int
    role: str = ""
    talk_s: float
    talk_share: float
    turns: int
    longest_turn_s: float
    interruptions: int
    interrupted: int
    interrupted_lately: int
    voice: Voice | None = None
    start: Voice | None = None
    recent: Voice | None = None
    speakers: tuple[SpeakerMeasures, ...] | UnsetType = UNSET

    def figures(self) -> dict[str, float]:
        """Return what is known by the names of :data:`MEASURE_NAMES`; rules of alerts use them."""
        own = {name: float(getattr(self, name)) for name in _OWN_FIGURES}
        return own | self.changes()

    def changes(self) -> dict[str, float]:
        """Return how the recent voice differs from the speaker's own start, where both are known.

        ``level_change_db`` and ``pitch_change_st`` (semitones), ``range_change_st``, and
        ``rate_change``, of the syllables a second, 0.25: a quarter faster.
        """
        if self.start is None or self.recent is None:
            return {}
        then, now = self.start, self.recent
        found: dict[str, float] = {}
        if then.level_dbfs is not None and now.level_dbfs is not None:
            found["level_change_db"] = round(now.level_dbfs - then.level_dbfs, 1)
        if then.pitch_hz and now.pitch_hz:
            found["pitch_change_st"] = round(12 * math.log2(now.pitch_hz / then.pitch_hz), 2)
        if then.pitch_range_st is not None and now.pitch_range_st is not None:
            found["range_change_st"] = round(now.pitch_range_st - then.pitch_range_st, 2)
        if then.syllables_per_s and now.syllables_per_s:
            found["rate_change"] = round(now.syllables_per_s / then.syllables_per_s - 1, 3)
        return found


class Measures(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation so far: who talks how much, who interrupts whom, how voices change.

    Attributes:
        at_sample: measured from the start up to here.
        at_s: the same in seconds; set from the samples, whatever is given.
        silence_s: time in which nobody speaks.
        overlap_s: time in which two channels or more do.
        missing_s: time without audio.
        channels: by index.
    """

    at_sample: int
    at_s: float = 0.0
    silence_s: float
    overlap_s: float
    missing_s: float
    channels: tuple[ChannelMeasures, ...]

    def __post_init__(self) -> None:
        force_setattr(self, "at_s", samples_to_s(self.at_sample))


class ChannelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One analysed channel of a stream that has ended.

    Attributes:
        scored_s: time in final segments.
        label_s: seconds of segments by label.
        unclear_s: seconds of segments without one.
        gap_s: seconds of gaps by reason.
        points: number of points.
        whole: shares and course; None: nothing was heard, or the summary is of before.
    """

    channel: int
    role: str
    scored_s: float
    label_s: dict[str, float]
    unclear_s: float = 0.0
    gap_s: dict[str, float]
    points: int
    whole: Whole | None = None


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that has ended, as a whole.

    Attributes:
        reason: why it ended.
        duration_s: length of the stream's clock.
        received_samples: samples a channel at the client's rate.
        channels: the analysed ones.
        alerts: number of alerts raised.
        measures: of the conversation; None: not measured.
    """

    reason: CloseReason
    duration_s: float
    received_samples: int
    channels: tuple[ChannelSummary, ...]
    alerts: int
    measures: Measures | None = None


class ModelNotice(msgspec.Struct, frozen=True, kw_only=True):
    """The model that scored the audio.

    Attributes:
        name: e.g. ``emotion2vec_plus_base``.
        licence: of its weights.
        notice: what must be said wherever it is in use, or "".
    """

    name: str
    licence: str
    notice: str = ""


class LabelName(msgspec.Struct, frozen=True, kw_only=True):
    """One class, in the order of ``posteriors``."""

    name: str
    name_zh: str


Granularity = Literal["utterance", "frame", "stream"]
"""What the analysis of a file gives: one result for all, one a frame, or what a live stream would
have published."""

RESULT_VERSION = 3
"""``version`` of a :class:`FileResult`. In 2 every result had a label, frames had no ``speech``;
documents before it had no version, and other names."""


class FileModel(ModelNotice, frozen=True, kw_only=True):
    """The model that scored a file; ``sha256`` is that of its weights as published, hex, or ""."""

    sha256: str = ""


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """A whole channel.

    Attributes:
        label: the strongest class; None: unclear, or nobody speaks (the warning ``silent``).
        best: the strongest class.
        confidence: its posterior.
        posteriors: one value a class. A model hears an emotion in anything: without speech they
            mean nothing.
        level_dbfs: RMS level without offset, in dB of full scale; None: digital silence.
    """

    label: str | None
    best: str
    confidence: float
    posteriors: tuple[float, ...]
    level_dbfs: float | None


class Piece(Span, frozen=True, kw_only=True):
    """A piece of a long recording, cut amid a pause, with a result of its own.

    Attributes:
        has_speech: whether the detector heard any; if not, the rest is None.
        label: the strongest class; None: unclear, or not scored.
        best: the strongest class; None: no speech, or (in ``stream``) the engine could not score
            it, as with ``confidence`` and ``posteriors``.
        speaker: who speaks most in it, where that was asked for.
    """

    has_speech: bool
    label: str | None
    best: str | None
    confidence: float | None
    posteriors: tuple[float, ...] | None
    speaker: str | None


class Speaker(msgspec.Struct, frozen=True, kw_only=True):
    """One speaker of a channel.

    Attributes:
        name: unique in the channel.
        turns: when they spoke, in order.
        speech_s: how long, all turns together.
        label, best, confidence, posteriors: of all they said, as of :class:`Overall`.
    """

    name: str
    turns: tuple[Span, ...]
    speech_s: float
    label: str | None
    best: str
    confidence: float
    posteriors: tuple[float, ...]


class ChannelResult(msgspec.Struct, frozen=True, kw_only=True):
    """One channel of a file.

    Attributes:
        channel: its index in the file, from 0.
        role: who speaks in it.
        overall: of all of it: its pieces with speech, weighted by their length. None: nothing of it
            could be scored.
        whole: shares and course: of its segments and gaps, or with ``utterance`` of its pieces.
        warnings: what is wrong with its audio, each code once.
        pieces: they tile the channel; one where the recording fits into a forward pass.
        speakers: in the order they first speak, where they were asked for.
        points: with ``stream``.
        segments, gaps: with ``frame`` and ``stream``; they tile the channel.
        frames: with ``frame``.
    """

    channel: int
    role: str = "speaker"
    overall: Overall | None
    whole: Whole | None = None
    warnings: tuple[Warning, ...] = ()
    pieces: tuple[Piece, ...] = ()
    speakers: tuple[Speaker, ...] = ()
    points: tuple[Point, ...] = ()
    segments: tuple[Segment, ...] = ()
    gaps: tuple[Gap, ...] = ()
    # The last field: writers put the frames of hours in here without holding all their text.
    frames: Frames | None = None


class FileResult(msgspec.Struct, frozen=True, kw_only=True):
    """A whole file.

    Attributes:
        name: of the file, as its owner calls it.
        version: :data:`RESULT_VERSION`.
        granularity: what was asked for.
        labels: the classes, in the order of every ``posteriors``.
        duration_s: of the recording.
        sample_rate: of the file, Hz.
        frame_hop_ms: from frame to frame, 20 or 10.
        has_embedding: whether ``embedding.npy`` belongs to it.
        measures: of the conversation; None: the result is of before, or speech was not detected.
        channels: those whose role is analysed, in their order; never mixed.
    """

    # The first field: a copy of a result gets another name without being read.
    name: str
    version: int = RESULT_VERSION
    granularity: Granularity
    model: FileModel
    labels: tuple[LabelName, ...]
    duration_s: float
    sample_rate: int
    frame_hop_ms: int
    has_embedding: bool
    measures: Measures | None = None
    channels: tuple[ChannelResult, ...]


def schema_document() -> dict[str, Any]:
    """Return the JSON Schema of results: of a file, and of the events of a stream."""
    kinds = (FileResult, Point, Segment, Gap, Alert, Warning, Measures, Summary)
    _, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Results of Emotion Monitor",
        "anyOf": [{"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds],
        "$defs": components,
    }
    # Through JSON, which has no tuples: msgspec gives defaults as they are.
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))
    return plain
