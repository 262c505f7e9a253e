"""Silero's speech detector: a small recurrent network, run by NumPy.

It reads 512 samples at a time, with the 64 before them, and gives the probability of speech. A
chunk is 32 ms and a slot 20 ms: a slot takes the state after the last chunk that ends with it or
before, so that it is known at once whatever comes next, up to 32 ms late::

    chunks  [-----512----)[-----512----)[-----512----)
    slots   [-320--)[-320--)[-320--)[-320--)[-320--)
    state      none    1st     1st     2nd     3rd

All but the recurrent layer is computed for all chunks of a push together. Every product has the
shape it has for one chunk, and what is not a product works on each number by itself, so the results
are the same to the last bit however the audio is split.

Source: the network and weights of the package silero-vad 6.2 (MIT License, see NOTICE), which
``scripts/silero_weights.py`` takes from it; leaving speech 0.15 below entering it is that project's
rule too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np

# NumPy imports it when it is first used: a server would do so in the middle of a call.
import numpy.fft

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.timeline.slots import SILENCE, SPEECH, TONE
from ser_engine.timeline.speech import NO_POWERS, SlotCutter, SpeechHold, sound_powers
from ser_engine.timeline.tones import ToneFinder
from ser_engine.types import FloatArray

CHUNK_SAMPLES = 512
_CONTEXT_SAMPLES = 64
_UNITS = 128  # of the recurrent layer
_EXIT_BELOW_ENTRY = 0.15


class SileroDetector:
    """Silero's detector with a floor for the level, a hangover, and an ear for tones.

    The floor is ``min_level_dbfs``, or less where the voice of the stream is quiet; see
    :class:`QuietFloor`. The weights are shared by all streams; the state of one is here.
    """

    def __init__(self, config: VadConfig) -> None:
        self._entry = config.speech_threshold
        self._exit = config.speech_threshold - _EXIT_BELOW_ENTRY
        self._hold = SpeechHold(config)
        self._floor = QuietFloor(config)
        self._tones = ToneFinder()
        self._network = network()
        self._cutter = SlotCutter()
        self.powers = NO_POWERS
        self.skip(0)

    def skip(self, num_samples: int) -> None:
        """Forget the past, an unfinished slot included."""
        self._hold.reset()
        self._floor.reset()
        self._tones.reset()
        self._hidden, self._cell = (np.zeros(_UNITS, dtype=np.float32) for _ in range(2))
        # The context, and after it what there is of a chunk.
        self._chunk_rest: FloatArray = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)
        self._cutter.clear()
        self._heard = 0
        self._is_speech = False  # after the last whole chunk
        self._loudest = 0.0  # mean square of the loudest chunk

    def push(self, samples: FloatArray) -> list[int]:
        """Take samples ``(samples,)``; return a state for each slot now complete."""
        slots_before, chunks_before = self._heard // HOP_SAMPLES, self._heard // CHUNK_SAMPLES
        self._heard += len(samples)
        # The first one is for slots that end before the next chunk does.
        of_chunks = [self._is_speech, *self._hear(samples)]
        slots = self._cutter.push(samples)
        self.powers = sound_powers(slots)
        powers = self.powers.tolist()
        voices: list[bool] = []
        for slot, power in enumerate(powers, start=slots_before):
            chunks = (slot + 1) * HOP_SAMPLES // CHUNK_SAMPLES
            voices.append(self._floor.push(power, of_chunks[chunks - chunks_before]))
        loud = self._hold.loud(self.powers)
        states: list[int] = []
        for is_voice, is_tone in zip(voices, self._tones.push(slots, loud, voices), strict=True):
            if is_tone:
                # No hangover: a tone is no soft ending of a word.
                self._hold.reset()
                states.append(TONE)
            else:
                states.append(SPEECH if self._hold.push(is_voice) else SILENCE)
        return states

    def _hear(self, samples: FloatArray) -> list[bool]:
        """Return whether there is speech after each chunk that ``samples`` make whole."""
        audio = np.concatenate([self._chunk_rest, samples])
        count = (len(audio) - _CONTEXT_SAMPLES) // CHUNK_SAMPLES
        self._chunk_rest = audio[count * CHUNK_SAMPLES :].copy()
        if not count:
            return []
        starts = np.arange(count)[:, None] * CHUNK_SAMPLES
        chunks = audio[starts + np.arange(_CONTEXT_SAMPLES + CHUNK_SAMPLES)]
        chunks = chunks * self._gains(np.vecdot(chunks, chunks).tolist())[:, None]
        hidden: FloatArray = np.empty((count, _UNITS), dtype=np.float32)
        for chunk, gates in enumerate(self._network.encode(chunks)):
            self._cell = self._network.step(gates, self._hidden, self._cell, hidden[chunk])
            self._hidden = hidden[chunk]
        states: list[bool] = []
        for probability in self._network.probabilities(hidden):
            self._is_speech = probability >= (self._exit if self._is_speech else self._entry)
            states.append(self._is_speech)
        return states

    def _gains(self, energies: list[float]) -> FloatArray:
        """Return what to multiply chunks with, for the network does not hear what is very quiet.

        A stream whose loudest chunk is below :data:`_USUAL_POWER` is raised to it. As it comes, the
        network misses 40 % of clips of -66 dBFS, 13 % at -56; raised, 7 % at either.
        """
        gains: list[float] = []
        for energy in energies:
            power = energy / (_CONTEXT_SAMPLES + CHUNK_SAMPLES)
            self._loudest = max(self._loudest * _CHUNK_FADE, power, _LEAST_POWER)
            gains.append(max(math.sqrt(_USUAL_POWER / self._loudest), 1.0))
        return np.array(gains, dtype=np.float32)


class QuietFloor:
    """Level below which a slot is silence.

    It is ``min_level_dbfs``. Where the voice of a stream is quiet that would cut off much of it, so
    it gives way, down to ``lowest_level_dbfs``, as far as :data:`_NOISE_MARGIN` above the noise and
    to :data:`_RANGE` below the loudest speech: the soft sounds of a voice lie within that, and the
    other party's echo does not.
    """

    def __init__(self, config: VadConfig) -> None:
        self._most = 10 ** (config.min_level_dbfs / 10)
        self._least = min(self._most, 10 ** (config.lowest_level_dbfs / 10))
        self.reset()

    def reset(self) -> None:
        """Forget voice and noise."""
        self._loudest = 0.0
        self._noises: deque[float] = deque(maxlen=_NOISE_BLOCKS)  # the least power of each block
        self._noise, self._newest = 0.0, math.inf  # nothing is known of it
        self._slots = 0

    def push(self, power: float, is_voice: bool) -> bool:
        """Take the next slot; return whether it is loud enough for the voice that it may hold."""
        self._newest = min(self._newest, power)
        self._slots += 1
        if self._slots % _BLOCK_SLOTS == 0:
            self._noises.append(self._newest)
            self._noise, self._newest = min(self._noises), math.inf
        self._loudest *= _FADE
        if not is_voice:
            return False
        quiet = max(self._least, self._noise * _NOISE_MARGIN, self._loudest * _RANGE)
        if power < min(self._most, quiet):
            return False
        self._loudest = max(self._loudest, power)
        return True


_NOISE_MARGIN = 10**0.6
"""6 dB."""
_RANGE = 10**-4
"""40 dB below the loudest slot of speech."""
_BLOCK_SLOTS, _NOISE_BLOCKS = 25, 8
"""The noise is the least level of 4 s: nobody speaks as long as that without a pause."""
_FADE = 10 ** -(0.3 / (10 * SAMPLE_RATE_HZ / HOP_SAMPLES))
"""The loudest speech counts 3 dB less every 10 s."""
_USUAL_POWER, _LEAST_POWER = 10**-2.6, 10**-6.1
"""Speech of -26 dBFS is heard as it is; nothing is raised by more than 35 dB."""
_CHUNK_FADE = _FADE ** (CHUNK_SAMPLES / HOP_SAMPLES)


class Network:
    """The weights, and what they do.

    Args:
        weights: by the names that ``scripts/silero_weights.py`` gives them.
    """

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        # Two products side by side in time are one with the taps of a filter side by side. Taps
        # that would only meet padding are left out.
        self._filters = [
            np.ascontiguousarray(
                weights[f"conv{layer}_weight"][:, :, taps].transpose(2, 1, 0)
            ).reshape(-1, len(weights[f"conv{layer}_bias"]))
            for layer, taps in ((1, slice(3)), (2, slice(3)), (3, slice(1, 3)), (4, slice(1, 2)))
        ]
        self._biases = [weights[f"conv{layer}_bias"] for layer in (1, 2, 3, 4)]
        # sigmoid(x) = (tanh(x / 2) + 1) / 2: halved here, one call does for all four gates.
        halves = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], dtype=np.float32), _UNITS)
        self._from_input = np.ascontiguousarray(weights["lstm_weight_ih"].T * halves)
        self._from_hidden = np.ascontiguousarray(weights["lstm_weight_hh"].T * halves)
        self._gate_bias = (weights["lstm_bias_ih"] + weights["lstm_bias_hh"]) * halves
        self._output = np.ascontiguousarray(weights["output_weight"].reshape(-1))
        self._output_bias = float(weights["output_bias"][0])

    def encode(self, chunks: FloatArray) -> FloatArray:
        """Return what ``(chunks, 576)`` add to the gates of the recurrent layer: ``(chunks, 512)``.

        Products are stacks of one product for each chunk: that of all would round differently.
        """
        spectrum = np.fft.rfft(chunks[:, _FRAMES] * _HANN)
        # Not abs(): it may round differently at the end of an array.
        size = np.sqrt(np.square(spectrum.real) + np.square(spectrum.imag))
        taps = np.zeros((len(chunks), 4, 3, _BINS), dtype=np.float32)
        taps[:, :, 1] = size
        taps[:, 1:, 0] = size[:, :-1]
        taps[:, :-1, 2] = size[:, 1:]
        first = self._layer(0, taps.reshape(-1, 4, 3 * _BINS))
        pairs = np.zeros((len(chunks), 2, 3, _UNITS), dtype=np.float32)
        pairs[:, 0, 1:] = first[:, :2]
        pairs[:, 1] = first[:, 1:]
        second = self._layer(1, pairs.reshape(-1, 2, 3 * _UNITS))
        third = self._layer(2, second.reshape(-1, 1, _UNITS))
        gates: FloatArray = np.matmul(self._layer(3, third), self._from_input)[:, 0]
        gates += self._gate_bias
        return gates

    def _layer(self, index: int, inputs: FloatArray) -> FloatArray:
        outputs: FloatArray = np.matmul(inputs, self._filters[index])
        outputs += self._biases[index]
        return np.maximum(outputs, 0, out=outputs)

    def step(
        self, gates: FloatArray, hidden: FloatArray, cell: FloatArray, out: FloatArray
    ) -> FloatArray:
        """Take a chunk; return the cell after it, ``(128,)``.

        Args:
            gates: of the chunk, ``(512,)``.
            hidden: before it, ``(128,)``.
            cell: before it, ``(128,)``.
            out: becomes the hidden state after it, ``(128,)``.
        """
        values = hidden @ self._from_hidden
        values += gates
        np.tanh(values, out=values)
        shares = values * _HALF
        shares += _HALF
        cell = shares[_UNITS : 2 * _UNITS] * cell
        cell += shares[:_UNITS] * values[2 * _UNITS : 3 * _UNITS]
        np.tanh(cell, out=out)
        out *= shares[3 * _UNITS :]
        return cell

    def probabilities(self, hidden: FloatArray) -> list[float]:
        """Return the probability of speech for each of ``(chunks, 128)``."""
        # A dot product for each row, not one of matrix and vector, for the same reason as above.
        logits = np.vecdot(np.maximum(hidden, 0), self._output).tolist()
        return [1 / (1 + math.exp(-(logit + self._output_bias))) for logit in logits]


_HALF = np.float32(0.5)
_BINS = 129
_FFT = 256
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)
_MIRRORED = np.concatenate([np.arange(576), np.arange(574, 510, -1)])
"""Samples of a chunk with its context, and 64 of them once more, backwards."""
_FRAMES = _MIRRORED[np.arange(_FFT) + 128 * np.arange(4)[:, None]]


@cache
def network() -> Network:
    """Return the network with the published weights."""
    with np.load(Path(__file__).with_name("silero.npz")) as weights:
        return Network(dict(weights))
