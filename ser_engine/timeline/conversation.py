"""What the channels of a stream do together: who talks how much, who interrupts whom.

Pure. A :class:`Conversation` listens in front of the speech detectors of its channels, so a live
stream and its recording are measured by the same code::

    detector = conversation.listen(channel, detector)   # in place of the detector itself
    ... audio is pushed to the detectors ...
    conversation.measures()

All is counted in slots of 20 ms that hold speech by the detector, its hangover included:

- *talk*: slots with speech of a channel. *Overlap*: slots with speech of two channels or more.
  *Silence*: slots without speech of any, though the audio is there.
- *utterance*: a run of speech slots of one channel.
- *floor*: it belongs to who began to speak while nobody had it; another takes it with an utterance
  of 1 s or more, as soon as the one before is silent. Shorter ones ("yes", "mhm") are signs of
  listening and take nothing. After 3 s without speech nobody has it. A *turn* is a time with the
  floor, from its first to its last slot of speech.
- *interruption*: B begins while A has the floor and has been speaking for 1 s or more; both speak
  for 0.4 s or more; A falls silent first, and B's utterance lasts 1 s or more. Shorter overlaps are
  usual where one turn follows another (M. Heldner and J. Edlund, "Pauses, gaps and overlaps in
  conversations", Journal of Phonetics 38, 2010), and the hangover alone makes 0.2 s of them.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.schema import ChannelMeasures, Measures, rounded
from ser_engine.timeline.slots import SPEECH
from ser_engine.timeline.speech import SlotCutter, SpeechDetector
from ser_engine.timeline.voice import VoiceMeter
from ser_engine.types import FloatArray

SLOTS_A_S = SAMPLE_RATE_HZ // HOP_SAMPLES
TAKES_FLOOR_S = 1.0
"""Length of an utterance that is more than a sign of listening."""
FLOOR_FREE_AFTER_S = 3.0
HAS_SPOKEN_S = 1.0
"""So long somebody must have been speaking to be interrupted."""
BOTH_SPEAK_S = 0.4
LATELY_S = 60.0
"""What "lately" is for interruptions."""

_TAKES_FLOOR, _FREE_AFTER, _HAS_SPOKEN, _BOTH_SPEAK, _LATELY = (
    round(seconds * SLOTS_A_S)
    for seconds in (TAKES_FLOOR_S, FLOOR_FREE_AFTER_S, HAS_SPOKEN_S, BOTH_SPEAK_S, LATELY_S)
)
_SILENT, _SPEAKS, _MISSING = 0, 1, 2
_Slots = npt.NDArray[np.uint8]


@dataclass(slots=True)
class _Attempt:
    """Somebody began to speak while another had the floor."""

    victim: int
    at_slot: int
    victim_stopped_at: int | None = None


@dataclass(slots=True)
class _Speaker:
    """What one channel has done; slots of the conversation's clock."""

    talk: int = 0
    utterance_from: int | None = None  # None: silent
    attempt: _Attempt | None = None
    turns: int = 0
    longest_turn: int = 0
    interruptions: int = 0
    interrupted: int = 0
    interrupted_at: deque[int] = field(default_factory=deque)


class _Floor:
    """Takes stretches of time in which nothing changes."""

    def __init__(self, num_channels: int) -> None:
        self.speakers = [_Speaker() for _ in range(num_channels)]
        self.slots = self.silence = self.overlap = self.missing = 0
        self._holder: int | None = None
        self._held_from = self._last_speech_of_holder = self._quiet_from = 0

    def span(self, states: Sequence[int], length: int) -> None:
        start, end = self.slots, self.slots + length
        self.slots = end
        speaking = [index for index, state in enumerate(states) if state == _SPEAKS]
        if len(speaking) > 1:
            self.overlap += length
        elif not speaking and _SILENT in states:
            self.silence += length
        elif not speaking:
            self.missing += length
        self._begin_and_end(speaking, start)
        for index in speaking:
            self.speakers[index].talk += length
        self._pass_floor(speaking, start, end)
        self._settle(speaking, end)

    def _begin_and_end(self, speaking: list[int], start: int) -> None:
        holder = self._holder
        held_since = None if holder is None else self.speakers[holder].utterance_from
        for index, speaker in enumerate(self.speakers):
            if index not in speaking:
                speaker.utterance_from = speaker.attempt = None
            elif speaker.utterance_from is None:
                speaker.utterance_from = start
                if (
                    holder is not None
                    and holder in speaking
                    and held_since is not None
                    and start - held_since >= _HAS_SPOKEN
                ):
                    speaker.attempt = _Attempt(holder, start)
        for speaker in self.speakers:
            attempt = speaker.attempt
            if attempt is None or attempt.victim_stopped_at is not None:
                continue
            if attempt.victim not in speaking:
                if start - attempt.at_slot < _BOTH_SPEAK:
                    speaker.attempt = None  # As turns follow each other.
                else:
                    attempt.victim_stopped_at = start

    def _pass_floor(self, speaking: list[int], start: int, end: int) -> None:
        if speaking:
            self._quiet_from = end
        elif end - self._quiet_from >= _FREE_AFTER:
            self._holder = None
        if self._holder in speaking:
            self._last_speech_of_holder = end
        else:
            # The one who has been speaking longest comes first.
            for index in sorted(speaking, key=lambda each: self._began(each)):
                if self._holder is None or end - self._began(index) >= _TAKES_FLOOR:
                    self._holder, self._held_from = index, self._began(index)
                    self._last_speech_of_holder = end
                    self.speakers[index].turns += 1
                    break
        if self._holder is not None:
            speaker = self.speakers[self._holder]
            turn = self._last_speech_of_holder - self._held_from
            speaker.longest_turn = max(speaker.longest_turn, turn)

    def _settle(self, speaking: list[int], end: int) -> None:
        for index in speaking:
            speaker = self.speakers[index]
            attempt = speaker.attempt
            if attempt is None or attempt.victim_stopped_at is None:
                continue
            if end - attempt.at_slot >= _TAKES_FLOOR:
                speaker.attempt = None
                speaker.interruptions += 1
                victim = self.speakers[attempt.victim]
                victim.interrupted += 1
                victim.interrupted_at.append(attempt.at_slot)
        for speaker in self.speakers:
            while speaker.interrupted_at and speaker.interrupted_at[0] < end - _LATELY:
                speaker.interrupted_at.popleft()

    def _began(self, index: int) -> int:
        began = self.speakers[index].utterance_from
        assert began is not None, "of those who speak"
        return began


class Listener:
    """A :class:`SpeechDetector` of one channel that lets its conversation listen.

    Attributes:
        powers: as the detector has them.
    """

    def __init__(self, detector: SpeechDetector, voice: VoiceMeter | None) -> None:
        self.voice = voice
        self.slots: deque[_Slots] = deque()
        """States of slots that were not taken into account yet."""
        self.num_slots = 0
        self.powers = detector.powers
        self._detector = detector
        self._cutter = SlotCutter()
        self._clock_samples = 0
        self._heard_slots = 0

    def push(self, samples: FloatArray) -> Sequence[int]:
        """Take samples ``(samples,)``; return a state for each slot now complete."""
        states = self._detector.push(samples)
        self.powers = self._detector.powers
        slots = self._cutter.push(samples)
        if states:
            # Nobody speaks in a tone of the telephone network.
            speaks = [state == SPEECH for state in states]
            if self.voice is not None:
                self.voice.take(slots, speaks)
            self._clock_samples += len(slots) * HOP_SAMPLES
            # After a gap slots do not begin at multiples of 20 ms; those of a clock they fill do.
            self._put(np.array(speaks, dtype=np.uint8))
        return states

    def skip(self, num_samples: int) -> None:
        """Go on after a gap; see :class:`SpeechDetector`."""
        self._detector.skip(num_samples)
        if self.voice is not None:
            self.voice.end_phrase()
        self._clock_samples += len(self._cutter.rest) + num_samples
        self._cutter.clear()
        missing = self._clock_samples // HOP_SAMPLES - self._heard_slots
        self._put(np.full(max(missing, 0), _MISSING, dtype=np.uint8))

    def _put(self, states: _Slots) -> None:
        if len(states):
            self.slots.append(states)
            self.num_slots += len(states)
            self._heard_slots += len(states)

    def take(self, num_slots: int) -> _Slots:
        """Remove and return the next states."""
        taken: list[_Slots] = []
        self.num_slots -= num_slots
        while num_slots:
            first = self.slots.popleft()
            taken.append(first[:num_slots])
            if len(first) > num_slots:
                self.slots.appendleft(first[num_slots:])
            num_slots -= len(taken[-1])
        return np.concatenate(taken) if taken else np.empty(0, dtype=np.uint8)


class Conversation:
    """The channels of one stream or recording.

    Call :meth:`listen` once for each channel, before any audio; all take the same time.
    """

    def __init__(self) -> None:
        self._listeners: dict[int, Listener] = {}
        self._roles: dict[int, str] = {}
        self._floor: _Floor | None = None

    def listen(
        self, channel: int, detector: SpeechDetector, *, role: str = "", voice: bool = True
    ) -> Listener:
        """Return what takes the place of a channel's detector.

        Args:
            voice: measure the voice as well; False: only when somebody speaks.
        """
        listener = Listener(detector, VoiceMeter() if voice else None)
        self._listeners[channel], self._roles[channel] = listener, role
        return listener

    def finish(self) -> None:
        """End the phrases that are open. No audio may come after."""
        for listener in self._listeners.values():
            if listener.voice is not None:
                listener.voice.end_phrase()

    def measures(self) -> Measures:
        """Return what was measured so far: up to where every channel's detector has decided."""
        floor = self._advance()
        talks = [speaker.talk for speaker in floor.speakers]
        total = sum(talks)
        at_sample = floor.slots * HOP_SAMPLES
        return Measures(
            at_sample=at_sample,
            silence_s=_seconds(floor.silence),
            overlap_s=_seconds(floor.overlap),
            missing_s=_seconds(floor.missing),
            channels=tuple(
                self._channel(index, speaker, total)
                # By index: those that are not analysed were added last.
                for index, speaker in sorted(
                    zip(self._listeners, floor.speakers, strict=True), key=lambda each: each[0]
                )
            ),
        )

    def _channel(self, channel: int, speaker: _Speaker, total: int) -> ChannelMeasures:
        meter = self._listeners[channel].voice
        return ChannelMeasures(
            channel=channel,
            role=self._roles[channel],
            talk_s=_seconds(speaker.talk),
            talk_share=rounded(speaker.talk / total) if total else 0.0,
            turns=speaker.turns,
            longest_turn_s=_seconds(speaker.longest_turn),
            interruptions=speaker.interruptions,
            interrupted=speaker.interrupted,
            interrupted_lately=len(speaker.interrupted_at),
            voice=None if meter is None else meter.whole(),
            start=None if meter is None else meter.start(),
            recent=None if meter is None else meter.recent(),
        )

    def _advance(self) -> _Floor:
        listeners = list(self._listeners.values())
        if self._floor is None:
            self._floor = _Floor(len(listeners))
        num_slots = min((each.num_slots for each in listeners), default=0)
        if num_slots:
            states = np.stack([each.take(num_slots) for each in listeners])
            edges = np.flatnonzero((states[:, 1:] != states[:, :-1]).any(axis=0)) + 1
            bounds = [0, *edges.tolist(), num_slots]
            for start, end in itertools.pairwise(bounds):
                self._floor.span(states[:, start].tolist(), end - start)
        return self._floor


def _seconds(slots: int) -> float:
    return slots / SLOTS_A_S
