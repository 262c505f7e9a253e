"""The results of one channel, each given to who speaks in it.

Points, segments and gaps wait here until it is decided who speaks (:mod:`.live`). A point is of who
speaks most in it. A segment is cut where another person begins; its parts carry its label and
confidence. What somebody says who is left out has no points, and a gap ``left_out`` in place of its
segments::

    turns      [---- speaker 1 ----)  [-- speaker 2 --)[---- speaker 1 -----)
    segment    [------------------ angry ----------------------------------)
    published  [---- angry, 1 --------)[-- angry, 2 ---)[---- angry, 1 ------)

Everything that a label was made of until then is in the pool of the next one's first second and a
half: right after a change a label may be what the person before sounded like.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from ser_engine.frames import SAMPLE_RATE_HZ, samples_to_s
from ser_engine.schema import (
    Event,
    Frames,
    Gap,
    Point,
    Segment,
    SpeakerMeasures,
    rounded,
)
from ser_engine.speakers.live import LiveSpeakers, Spoken

_KEPT_SAMPLES = 60 * SAMPLE_RATE_HZ
"""Turns are kept for so long after what was published: points reach back by a window at most."""


def speaker_name(speaker: int) -> str:
    """Return how a speaker is called, who is numbered from 0."""
    return f"speaker {speaker + 1}"


@dataclass(slots=True)
class _Sums:
    """What one speaker has said; None as a label: unclear."""

    talk_samples: int = 0
    label_samples: Counter[str | None] = field(default_factory=Counter)


@dataclass(slots=True)
class _OpenPart:
    """The part of a segment that was announced and goes on."""

    start_sample: int
    end_sample: int
    speaker: int | None
    left_out: bool


class Attribution:
    """Of one channel. See the module's text.

    Args:
        leaves_first_out: the first who speaks is left out.

    Attributes:
        released_to: everything before this sample was returned, save what goes on.
    """

    def __init__(self, speakers: LiveSpeakers, *, leaves_first_out: bool) -> None:
        self.speakers = speakers
        self.released_to = 0
        self._leaves_first_out = leaves_first_out
        self._left_out: set[int] = set()
        self._held: deque[Event] = deque()
        self._turns: deque[Spoken] = deque()
        self._sums: dict[int, _Sums] = {}
        self._unknown_samples = 0
        self._done_to = 0  # end of the final segments and gaps
        self._part: _OpenPart | None = None

    @property
    def num_speakers(self) -> int:
        """How many speakers there were so far."""
        return max(self._sums, default=-1) + 1

    def leave_out(self, speaker: int, is_left_out: bool) -> None:
        """Leave a speaker out from here on, or no longer."""
        if is_left_out:
            self._left_out.add(speaker)
        else:
            self._left_out.discard(speaker)

    def take(self, events: Iterable[Event]) -> None:
        """Take the next events, in order."""
        self._held += events

    def release(self) -> list[Event]:
        """Return the events of which it is decided who speaks in them, in order."""
        decided_to = self.speakers.decided_to
        for turn in self.speakers.take_spoken():
            self._add(turn)
        released: list[Event] = []
        while self._held and self._held[0].end_sample <= decided_to:
            released += self._attributed(self._held.popleft())
        # Events that wait may begin before what is decided.
        self.released_to = min([decided_to, *(each.start_sample for each in self._held)])
        while self._turns and self._turns[0].end_sample < self._done_to - _KEPT_SAMPLES:
            self._turns.popleft()
        return released

    def finish(self) -> list[Event]:
        """Return everything that is left; nothing more is decided."""
        self.speakers.flush()
        self.speakers.give_up()
        released = self.release()
        # What could not be decided is published all the same.
        while self._held:
            released += self._attributed(self._held.popleft())
        return released

    def measures(self) -> tuple[SpeakerMeasures, ...]:
        """Return what each speaker has done so far, in the order they first spoke."""
        total = self._unknown_samples + sum(each.talk_samples for each in self._sums.values())
        same_as = self.speakers.same_as
        return tuple(
            SpeakerMeasures(
                name=speaker_name(speaker),
                talk_s=samples_to_s(sums.talk_samples),
                talk_share=rounded(sums.talk_samples / total),
                left_out=speaker in self._left_out,
                labels={
                    label: rounded(count / sums.label_samples.total())
                    for label, count in sorted(
                        (label, count)
                        for label, count in sums.label_samples.items()
                        if label is not None
                    )
                },
                unclear=(
                    rounded(sums.label_samples[None] / sums.label_samples.total())
                    if sums.label_samples
                    else 0.0
                ),
                same_as=speaker_name(same_as[speaker]) if speaker in same_as else UNSET,
            )
            for speaker, sums in sorted(self._sums.items())
        )

    def _add(self, turn: Spoken) -> None:
        self._turns.append(turn)
        samples = turn.end_sample - turn.start_sample
        if turn.speaker is None:
            self._unknown_samples += samples
            return
        # Whoever takes a call speaks first, so the first voice is the one to leave out.
        if not self._sums and self._leaves_first_out:
            self._left_out.add(turn.speaker)
        self._sums.setdefault(turn.speaker, _Sums()).talk_samples += samples

    def _attributed(self, event: Event) -> list[Event]:
        match event:
            case Point():
                return self._point(event)
            case Segment():
                return self._parts(event)
            case Gap():
                if event.final:
                    self._done_to = event.end_sample
                return [event]

    def _point(self, point: Point) -> list[Event]:
        speaker = self._speaker_between(point.start_sample, point.end_sample)
        if speaker in self._left_out:
            return []
        if speaker is not None:
            # A speaker with a point has a turn, and so sums, from before.
            spoken = round((point.end_sample - point.start_sample) * point.speech_share)
            self._sums[speaker].label_samples[point.label] += spoken
        frames = None if point.frames is None else self._frames(point.frames)
        return [replace(point, speaker=_name(speaker), frames=frames)]

    def _frames(self, frames: Frames) -> Frames:
        """Return the frames without those of who is left out."""
        kept = [
            row
            for row, start in enumerate(frames.start_samples)
            if self._speaker_between(start, start + frames.hop_samples) not in self._left_out
        ]
        return replace(
            frames,
            start_samples=tuple([frames.start_samples[row] for row in kept]),
            posteriors=tuple([frames.posteriors[row] for row in kept]),
            labels=tuple([frames.labels[row] for row in kept]),
        )

    def _parts(self, segment: Segment) -> list[Event]:
        """Return the parts of a segment that were not returned as final before."""
        parts: list[Event] = []
        start = max(segment.start_sample, self._done_to)
        part, self._part = self._part, None
        speaker = self._speaker_at(start) if part is None else part.speaker
        is_left_out = speaker in self._left_out
        if part is not None and part.left_out != is_left_out and part.end_sample > start:
            # What was announced stays as it was; what comes after is treated otherwise.
            parts.append(_of(segment, start, part.end_sample, part.speaker, part.left_out, True))
            start = part.end_sample
        for turn in self._turns:
            # Turns lie behind one another; one that goes on with the same person cuts nothing.
            if turn.end_sample <= start or turn.speaker == speaker:
                continue
            if turn.start_sample >= segment.end_sample:
                break
            if turn.start_sample > start:
                is_left_out = speaker in self._left_out
                parts.append(_of(segment, start, turn.start_sample, speaker, is_left_out, True))
                start = turn.start_sample
            speaker = turn.speaker
        is_left_out = speaker in self._left_out
        end = segment.end_sample
        if end > start:
            parts.append(_of(segment, start, end, speaker, is_left_out, segment.final))
        # What goes on may still be cut elsewhere: only its earlier parts are final.
        self._done_to = end if segment.final else start
        if not segment.final:
            self._part = _OpenPart(start, end, speaker, is_left_out)
        return parts

    def _speaker_between(self, start: int, end: int) -> int | None:
        """Return who speaks most between two samples; where nobody does, who spoke before."""
        shares: Counter[int | None] = Counter()
        before: int | None = None
        for turn in self._turns:
            if turn.start_sample >= end:
                break
            shared = min(turn.end_sample, end) - max(turn.start_sample, start)
            if shared > 0:
                shares[turn.speaker] += shared
            before = turn.speaker
        return shares.most_common(1)[0][0] if shares else before

    def _speaker_at(self, sample: int) -> int | None:
        """Return who speaks at a sample, or next after it, or spoke last."""
        speaker: int | None = None
        for turn in self._turns:
            speaker = turn.speaker
            if turn.end_sample > sample:
                break
        return speaker


def _name(speaker: int | None) -> str | UnsetType:
    return UNSET if speaker is None else speaker_name(speaker)


def _of(
    segment: Segment, start: int, end: int, speaker: int | None, is_left_out: bool, final: bool
) -> Segment | Gap:
    if is_left_out:
        return Gap(start_sample=start, end_sample=end, reason="left_out", final=final)
    return replace(segment, start_sample=start, end_sample=end, speaker=_name(speaker), final=final)
