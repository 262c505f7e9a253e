"""What is wrong with the audio of one channel, reported once each time a condition sets in.

The monitor wraps a channel's speech detector, so that it knows which 20 ms slots hold speech. It
judges every second, over the last :data:`MEMORY_S` seconds, with hysteresis: a condition is
reported at one threshold and counts as gone at another. Chunking does not matter.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

# NumPy imports it when it is first used: a server would do so in the middle of a call.
import numpy.fft
import numpy.typing as npt

from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ, samples_to_s
from ser_engine.timeline import SpeechDetector
from ser_engine.timeline.slots import SPEECH
from ser_engine.types import FloatArray

QualityCode = Literal["clipping", "too_quiet", "noisy", "narrow_band"]

MEMORY_S = 10
"""Audio that a judgement rests on: long enough for a few words between pauses."""
MIN_SPEECH_SLOTS = 100
"""Speech that a judgement of its level or spectrum needs: 2 s."""
MIN_SPEECH_SLOTS_OF_A_FILE = 25
"""The same at the end of a recording: 0.5 s."""

CLIP_LEVEL = 0.975
"""Samples from here on count as clipped: just below what mu-law can say at most, 0.980."""
BEYOND_FULL_SCALE = 16.0
"""Peaks of floating point samples that no overdriven input has: they are of another scale."""
CLIPPED_SHARE, NOT_CLIPPED_SHARE = 1e-3, 2e-4
"""Share of samples. Recordings that are normalised to full scale reach it with a few peaks; an
overdriven microphone with every loud vowel."""
QUIET_DBFS, NOT_QUIET_DBFS = -50.0, -46.0
"""Level of speech, 10 dB above the level that detectors take for silence by default: below, soft
syllables begin to be lost."""
NOISY_SNR_DB, NOT_NOISY_SNR_DB = 10.0, 13.0
"""Speech against noise. Emotion is still heard at 10 dB; below, noise fills the pauses and covers
the soft half of speech."""
NARROW_DB, NOT_NARROW_DB = -50.0, -44.0
"""Energy above 4 kHz against all of it, in speech. Recordings of three corpora and of calls have
-10 to -31 dB there; what came through a telephone has what resampling left, -60 dB and less."""
NOISE_PERCENTILE = 10
"""The quietest slots show the noise, even where a detector takes the noise for speech."""
DYNAMIC_FLOOR_DBFS = -100.0
"""Level that digital silence counts as."""

_BAND_EDGE_HZ = 4_000
_FAINTEST_POWER = 1e-6
_SLOTS = SAMPLE_RATE_HZ // HOP_SAMPLES
_FFT = 512
# Spectra are taken of one in so many pieces of 32 ms: eight a second are enough.
_FFT_STRIDE = 4
_WINDOW = np.hanning(_FFT).astype(np.float32)
# First bin that counts as above the edge: a resampler's slope lies below it.
_HIGH_BIN = _BAND_EDGE_HZ * _FFT // SAMPLE_RATE_HZ + 4


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that went wrong.

    Attributes:
        message: for people, with figures and units.
        at_sample: where it was noticed, on the stream's clock.
    """

    code: QualityCode
    message: str
    at_sample: int

    @property
    def at_s(self) -> float:
        """The same in seconds."""
        return samples_to_s(self.at_sample)


@dataclass(frozen=True, slots=True, eq=False)
class _Second:
    samples: int
    clipped: int
    peak: float
    powers: npt.NDArray[np.float64]
    speech_slots: int
    speech_power: float  # summed over them
    high_energy: float
    energy: float


class QualityMonitor:
    """A speech detector that listens to the quality as well.

    Args:
        detector: says which slots are speech.
        source_rate_hz: rate the audio was had at before it came to 16 kHz.

    Attributes:
        powers: as the detector has them.
    """

    def __init__(self, detector: SpeechDetector, source_rate_hz: int) -> None:
        self._detector = detector
        self.powers = detector.powers
        self._source_rate_hz = source_rate_hz
        self._is_telephone = source_rate_hz <= 2 * _BAND_EDGE_HZ
        self._clock = 0
        self._audio: list[FloatArray] = []  # of this second
        self._filled = 0
        self._flags: list[bool] = []
        self._powers: list[float] = []
        self._seconds: deque[_Second] = deque(maxlen=MEMORY_S)
        self._wrong: set[QualityCode] = {"narrow_band"} if self._is_telephone else set()
        self._band_changes: deque[tuple[int, bool]] = deque([(0, self._is_telephone)])
        self._findings: list[Finding] = []
        self._has_judged_speech = False
        if self._is_telephone:
            # Known before any audio, and never taken back: telephone codecs end at 4 kHz.
            self._report("narrow_band", f"the audio comes at {source_rate_hz} Hz and")

    def push(self, samples: FloatArray) -> Sequence[int]:
        """Take samples ``(samples,)``; return the detector's states of the slots now complete."""
        states = self._detector.push(samples)
        self._flags += [state == SPEECH for state in states]
        self.powers = self._detector.powers
        self._powers += self.powers.tolist()
        while len(samples):
            part = samples[: SAMPLE_RATE_HZ - self._filled]
            samples = samples[len(part) :]
            self._audio.append(part)
            self._filled += len(part)
            self._clock += len(part)
            if self._filled == SAMPLE_RATE_HZ:
                second = self._take_audio()
                # Seconds begin where slots begin, so the detector has judged all slots of this one.
                flags_of_second, self._flags = self._flags[:_SLOTS], self._flags[_SLOTS:]
                powers, self._powers = self._powers[:_SLOTS], self._powers[_SLOTS:]
                self._judge(_measure(second, flags_of_second, powers))
        # What goes on is not the caller's to keep: it may be a piece of something long.
        if self._audio and self._audio[-1].base is not None:
            self._audio[-1] = self._audio[-1].copy()
        return states

    def finish(self) -> None:
        """Judge the rest: a short recording would get no judgement otherwise."""
        slots = self._filled // HOP_SAMPLES
        if slots:
            rest = self._take_audio()[: slots * HOP_SAMPLES]
            enough = MIN_SPEECH_SLOTS if self._has_judged_speech else MIN_SPEECH_SLOTS_OF_A_FILE
            self._judge(_measure(rest, self._flags[:slots], self._powers[:slots]), enough)
        elif self._seconds and not self._has_judged_speech:
            self._judge(self._seconds.pop(), MIN_SPEECH_SLOTS_OF_A_FILE)

    def skip(self, num_samples: int) -> None:
        """Let the clock run on over a gap; an unfinished second is not judged."""
        self._detector.skip(num_samples)
        self._take_audio()
        self._flags.clear()
        self._powers.clear()
        self._clock += num_samples

    def _take_audio(self) -> FloatArray:
        parts, self._audio, self._filled = self._audio, [], 0
        return np.concatenate(parts) if parts else _NO_AUDIO

    def take_findings(self) -> list[Finding]:
        """Return what went wrong since the last call."""
        if not self._findings:
            return self._findings
        findings, self._findings = self._findings, []
        return findings

    def narrow_band_at(self, sample: int) -> bool:
        """Return whether the audio was narrow at ``sample``, not before that of an earlier call."""
        changes = self._band_changes
        while len(changes) > 1 and changes[1][0] <= sample:
            changes.popleft()
        return changes[0][1]

    def _judge(self, newest: _Second, min_speech_slots: int = MIN_SPEECH_SLOTS) -> None:
        self._seconds.append(newest)
        # In one go: each second, this is asked of every channel of every stream.
        clipped = samples = speech_slots = 0
        speech_power = high_energy = energy = 0.0
        for each in self._seconds:
            clipped += each.clipped
            samples += each.samples
            speech_slots += each.speech_slots
            speech_power += each.speech_power
            high_energy += each.high_energy
            energy += each.energy
        clipped_share = clipped / samples
        if self._goes_wrong("clipping", clipped_share, CLIPPED_SHARE, NOT_CLIPPED_SHARE):
            if (peak := max(each.peak for each in self._seconds)) >= BEYOND_FULL_SCALE:
                self._findings.append(Finding("clipping", _wrong_scale(peak), self._clock))
            else:
                self._report("clipping", f"{clipped_share:.1%} of the samples reach full scale")
        # Level, noise and band are those of speech; clipping is not, a click is clipped too.
        if speech_slots < min_speech_slots:
            return
        self._has_judged_speech = True
        level = _dbfs(speech_power / speech_slots)
        if self._goes_wrong("too_quiet", -level, -QUIET_DBFS, -NOT_QUIET_DBFS):
            self._report("too_quiet", f"speech has a level of {level:.0f} dBFS")
        powers = np.concatenate([each.powers for each in self._seconds])
        rank = len(powers) * NOISE_PERCENTILE // 100
        snr = level - _dbfs(float(np.partition(powers, rank)[rank]))
        if self._goes_wrong("noisy", -snr, -NOISY_SNR_DB, -NOT_NOISY_SNR_DB):
            self._report("noisy", f"speech is {snr:.0f} dB above the noise")
        # A telephone's band is narrow by its rate: the spectrum cannot tell anything new.
        if not self._is_telephone:
            self._judge_band(high_energy, energy)

    def _judge_band(self, high_energy: float, energy: float) -> None:
        if energy <= 0:
            return
        share = 10 * float(np.log10(max(high_energy / energy, 1e-12)))
        was_narrow = "narrow_band" in self._wrong
        if self._goes_wrong("narrow_band", -share, -NARROW_DB, -NOT_NARROW_DB):
            self._report("narrow_band", f"the audio comes at {self._source_rate_hz} Hz, but")
        if was_narrow != ("narrow_band" in self._wrong):
            self._band_changes.append((self._clock, not was_narrow))

    def _goes_wrong(self, code: QualityCode, badness: float, wrong: float, right: float) -> bool:
        """Return whether the condition sets in."""
        if code in self._wrong:
            # Reported already; it has to come right before it is reported again.
            if badness <= right:
                self._wrong.discard(code)
            return False
        if badness < wrong:
            return False
        self._wrong.add(code)
        return True

    def _report(self, code: QualityCode, figure: str) -> None:
        self._findings.append(Finding(code, f"{figure}{_REMEDIES[code]}", self._clock))


_NO_AUDIO: FloatArray = np.empty(0, dtype=np.float32)
_REMEDIES: dict[QualityCode, str] = {
    "clipping": ", expected 0.1 % at most; turn the input's gain down",
    "too_quiet": f", expected {QUIET_DBFS:.0f} dBFS or more; turn the input's gain up",
    "noisy": f", expected {NOISY_SNR_DB:.0f} dB or more; results are less certain",
    "narrow_band": " holds nothing above 4 kHz, as on the telephone; results are less certain",
}


def _measure(audio: FloatArray, flags: list[bool], slot_powers: list[float]) -> _Second:
    """Measure whole slots, a second of them or less."""
    slots = audio.reshape(-1, HOP_SAMPLES)
    powers, speech = np.array(slot_powers), np.array(flags)
    high_energy = energy = 0.0
    if True in flags:
        starts = np.arange(0, len(audio) - _FFT + 1, _FFT * _FFT_STRIDE)
        starts = starts[speech[starts // HOP_SAMPLES]]
        pieces = audio[starts[:, None] + np.arange(_FFT)]
        # An offset would count as sound below 4 kHz.
        pieces -= np.add.reduce(pieces, axis=1, keepdims=True) / np.float32(_FFT)
        pieces *= _WINDOW
        # Real and imaginary parts squared: the absolute value would take a root in between.
        spectrum = np.square(np.fft.rfft(pieces, axis=1).view(pieces.dtype))
        high_energy = float(spectrum[:, 2 * _HIGH_BIN :].sum())
        energy = float(spectrum.sum())
    # As the samples are: an offset brings one side of the sound to full scale. An offset that rests
    # there by itself is no sound, and no gain would help.
    clipped, peak = 0, float(max(np.maximum.reduce(audio), -np.minimum.reduce(audio)))
    if peak >= CLIP_LEVEL:
        clipped = int(np.count_nonzero(np.abs(slots[powers >= _FAINTEST_POWER]) >= CLIP_LEVEL))
    speech_slots, speech_power = flags.count(True), float(powers[speech].sum())
    return _Second(
        len(audio), clipped, peak, powers, speech_slots, speech_power, high_energy, energy
    )


def _wrong_scale(peak: float) -> str:
    return (
        f"samples reach {peak:,.0f} times full scale, which is 1 for floating point; they look like"
        " integers: divide them by 32,768 if those had 16 bits"
    )


def _dbfs(power: float) -> float:
    return max(DYNAMIC_FLOOR_DBFS, 10 * float(np.log10(max(power, 1e-12))))
