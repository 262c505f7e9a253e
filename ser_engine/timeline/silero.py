"""Silero's speech detector: a small recurrent network, run by NumPy.

It reads 512 samples at a time, with the 64 before them, and gives the probability of speech. A
chunk is 32 ms and a slot 20 ms: a slot takes the state after the last chunk that ends with it or
before, so that it is known at once whatever comes next, up to 32 ms late::

    chunks  [-----512----)[-----512----)[-----512----)
    slots   [-320--)[-320--)[-320--)[-320--)[-320--)
    state      none    1st     1st     2nd     3rd

Chunks of many streams are computed together (:func:`hear_together`), and of one stream all that a
push completes. How a row of a product of matrices is rounded depends on the shape of the product
and on the row's place in it, and on nothing else. So products have one shape, that of
:data:`_BLOCK` chunks, and a chunk has one place in it, its number in its stream modulo that; what
is in places without a chunk does not matter::

    stream A, chunks 5 to 8      . . . . . 5 6 7 | 8 . . . . . . .      two products of its own
    with B, chunks 17 to 20      8 B B B B 5 6 7                        one of both

The recurrent product is one of vector and matrix for each stream, and what is not a product works
on each number by itself. So the results are the same to the last bit however the audio is split,
and whatever else is computed with it.

Source: the network and weights of the package silero-vad 6.2 (MIT License, see NOTICE), which
``scripts/silero_weights.py`` takes from it; leaving speech 0.15 below entering it is that project's
rule too.
"""

from __future__ import annotations

# Names in a .npz are read with it; so it, too, would be imported in the middle of a call.
import encodings.cp437  # noqa: F401
import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path

import numpy as np

# NumPy imports it when it is first used: a server would do so in the middle of a call.
import numpy.fft
import numpy.typing as npt

from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.timeline.music import MusicFinder
from ser_engine.timeline.slots import MUSIC, SILENCE, SPEECH, TONE
from ser_engine.timeline.speech import NO_POWERS, Powers, SlotCutter, SpeechHold, sound_powers
from ser_engine.timeline.tones import ToneFinder
from ser_engine.types import FloatArray

CHUNK_SAMPLES = 512
_CONTEXT_SAMPLES = 64
_CHUNK_WITH_CONTEXT = _CONTEXT_SAMPLES + CHUNK_SAMPLES
_UNITS = 128  # of the recurrent layer
_EXIT_BELOW_ENTRY = 0.15


class SileroDetector:
    """Silero's detector with a floor for the level, a hangover, and an ear for tones and music.

    The floor is ``min_level_dbfs``, or less where the voice of the stream is quiet; see
    :class:`QuietFloor`. The weights are shared by all streams; the state of one is here.
    """

    def __init__(self, config: VadConfig) -> None:
        self._entry = config.speech_threshold
        self._exit = config.speech_threshold - _EXIT_BELOW_ENTRY
        self._hold = SpeechHold(config)
        self._floor = QuietFloor(config)
        self._tones = ToneFinder()
        self._music = MusicFinder()
        self._cutter = SlotCutter()
        self.powers = NO_POWERS
        self.skip(0)

    def skip(self, num_samples: int) -> None:
        """Forget the past, an unfinished slot included."""
        self._hold.reset()
        self._floor.reset()
        self._tones.reset()
        self._music.reset()
        self._hidden, self._cell = (np.zeros(_UNITS, dtype=np.float32) for _ in range(2))
        # The context, and after it what there is of a chunk.
        self._chunk_rest: FloatArray = np.zeros(_CONTEXT_SAMPLES, dtype=np.float32)
        self._cutter.clear()
        self._ahead: _Ahead | None = None
        self._coming_powers: Powers | None = None  # of the slots that it makes whole
        self._heard = 0
        self._is_speech = False  # after the last whole chunk
        self._loudest = 0.0  # mean square of the loudest chunk

    def push(self, samples: FloatArray) -> list[int]:
        """Take samples ``(samples,)``; return a state for each slot now complete."""
        slots_before, chunks_before = self._heard // HOP_SAMPLES, self._heard // CHUNK_SAMPLES
        # The first one is for slots that end before the next chunk does.
        of_chunks = [self._is_speech, *self._hear(samples)]
        self._heard += len(samples)
        slots = self._cutter.push(samples)
        known, self._coming_powers = self._coming_powers, None
        # Of all that was heard ahead; of a part of it there may be fewer.
        is_known = known is not None and len(known) == len(slots)
        self.powers = known if known is not None and is_known else sound_powers(slots)
        voices = self._floor.push(
            self.powers.tolist(),
            [
                of_chunks[(slot + 1) * HOP_SAMPLES // CHUNK_SAMPLES - chunks_before]
                for slot in range(slots_before, slots_before + len(slots))
            ],
        )
        loud = self._hold.loud(self.powers)
        states: list[int] = []
        tones = self._tones.push(slots, loud, voices)
        for slot, is_loud, is_voice, is_tone in zip(slots, loud, voices, tones, strict=True):
            if is_tone:
                # No hangover: a tone is no soft ending of a word.
                self._hold.reset()
            is_speech = not is_tone and self._hold.push(is_voice)
            is_music = self._music.push(slot, is_loud=is_loud and not is_tone, is_speech=is_speech)
            if is_tone:
                states.append(TONE)
            elif is_speech:
                states.append(SPEECH)
            else:
                states.append(MUSIC if is_music else SILENCE)
        return states

    def _hear(self, samples: FloatArray) -> list[bool]:
        """Return whether there is speech after each chunk that ``samples`` make whole."""
        ahead = self._ahead
        if ahead is None or not ahead.goes_on_with(samples):
            ahead, self._coming_powers = self._listen(samples), None
            _run([ahead])
        first = ahead.next_chunk
        probabilities = ahead.take(len(samples))
        if probabilities:
            last = first + len(probabilities) - 1
            # Copies: a view would keep the states of all streams alive.
            self._hidden, self._cell = ahead.hidden[last].copy(), ahead.cell[last].copy()
            self._loudest = ahead.loudest[last]
        self._chunk_rest = ahead.rest()
        self._ahead = None if ahead.is_used_up else ahead
        states: list[bool] = []
        for probability in probabilities:
            self._is_speech = probability >= (self._exit if self._is_speech else self._entry)
            states.append(self._is_speech)
        return states

    def _listen(self, samples: FloatArray) -> _Ahead:
        """Prepare the chunks that ``samples`` make whole; nothing of the state changes."""
        audio = np.concatenate([self._chunk_rest, samples])
        count = (len(audio) - _CONTEXT_SAMPLES) // CHUNK_SAMPLES
        ahead = _Ahead(
            audio, len(self._chunk_rest), self._heard // CHUNK_SAMPLES, self._hidden, self._cell
        )
        if count:
            stride = audio.itemsize
            shape, strides = (count, _CHUNK_WITH_CONTEXT), (CHUNK_SAMPLES * stride, stride)
            chunks: FloatArray = np.ndarray(shape, np.float32, audio, 0, strides)
            loudest = self._loudest
            gains: list[float] = []
            # What is very quiet the network does not hear. A stream whose loudest chunk is below
            # _USUAL_POWER is raised to it. As it comes, the network misses 40 % of clips of -66
            # dBFS, 13 % at -56; raised, 7 % at either.
            for energy in np.vecdot(chunks, chunks).tolist():
                loudest = max(loudest * _CHUNK_FADE, energy / _CHUNK_WITH_CONTEXT, _LEAST_POWER)
                ahead.loudest.append(loudest)
                gains.append(max(math.sqrt(_USUAL_POWER / loudest), 1.0))
            if max(gains) > 1.0:
                chunks = chunks * np.array(gains, dtype=np.float32)[:, None]
            ahead.chunks = chunks
        return ahead


class _Ahead:
    """What the network makes of audio that its detector has not taken yet.

    Args:
        audio: what there was of a chunk, with its context, and the samples after it.
        taken: samples of it that the detector has.
        number: of the first chunk in its stream.
        hidden: state before the first chunk, ``(128,)``; then that after each, ``(chunks, 128)``.
        cell: likewise.

    Attributes:
        chunks: whole ones, with context, as the network is to hear them, ``(chunks, 576)``.
        loudest: mean square of the loudest chunk, up to each.
        probabilities: of speech, after each.
        next_chunk: the first that the detector has not taken.
    """

    __slots__ = (
        "_audio",
        "_taken",
        "cell",
        "chunks",
        "hidden",
        "loudest",
        "next_chunk",
        "number",
        "probabilities",
    )

    def __init__(
        self, audio: FloatArray, taken: int, number: int, hidden: FloatArray, cell: FloatArray
    ) -> None:
        self._audio = audio
        self._taken = taken
        self.number = number
        self.hidden = hidden
        self.cell = cell
        self.chunks: FloatArray = _NO_CHUNKS
        self.loudest: list[float] = []
        self.probabilities: list[float] = []
        self.next_chunk = 0

    def goes_on_with(self, samples: FloatArray) -> bool:
        """Return whether ``samples`` are what comes next of the audio."""
        # Compared: a loss may have been announced since, and silence stands in its place.
        coming = self._audio[self._taken : self._taken + len(samples)]
        return len(coming) == len(samples) and np.array_equal(coming, samples)

    def take(self, num_samples: int) -> list[float]:
        """Go on by so many samples; return the probability after each chunk that they complete."""
        self._taken += num_samples
        first = self.next_chunk
        self.next_chunk = (self._taken - _CONTEXT_SAMPLES) // CHUNK_SAMPLES
        return self.probabilities[first : self.next_chunk]

    def rest(self) -> FloatArray:
        """Return what was taken of a chunk that is not whole, with its context."""
        return self._audio[self.next_chunk * CHUNK_SAMPLES : self._taken].copy()

    @property
    def is_used_up(self) -> bool:
        return self._taken == len(self._audio)


def hear_together(coming: Iterable[tuple[SileroDetector, FloatArray]]) -> None:
    """Let the network hear what many detectors will be pushed next, all at once.

    That makes their next pushes cheap and changes no result: a detector that is pushed something
    else, or nothing, hears as if this had not been called.

    Args:
        coming: detectors, each once, and their samples ``(samples,)``.
    """
    runs: list[_Ahead] = []
    detectors: list[SileroDetector] = []
    slots: list[FloatArray] = []
    for detector, samples in coming:
        ahead = detector._ahead
        if ahead is None or not ahead.goes_on_with(samples):
            detector._ahead = ahead = detector._listen(samples)
            runs.append(ahead)
            detectors.append(detector)
            slots.append(detector._cutter.next_slots(samples))
    for first in range(0, len(runs), _MAX_STREAMS):
        _run(runs[first : first + _MAX_STREAMS])
    if slots:
        powers, start = sound_powers(np.concatenate(slots)), 0
        for detector, each in zip(detectors, slots, strict=True):
            # A copy: a view would keep the powers of all streams alive.
            detector._coming_powers = powers[start : start + len(each)].copy()
            start += len(each)


def _run(runs: Sequence[_Ahead]) -> None:
    """Let the network hear the chunks of streams."""
    runs = sorted((each for each in runs if len(each.chunks)), key=lambda each: -len(each.chunks))
    if not runs:
        return
    net = network()
    counts = [len(each.chunks) for each in runs]
    if len(runs) == 1:
        (run,) = runs
        gates = net.encode(run.chunks, run.number + np.arange(counts[0]))
        going, hidden, cell = [1] * counts[0], run.hidden[None], run.cell[None]
    else:
        # First chunks first, then second ones: as the recurrent layer takes them.
        steps = np.concatenate([np.arange(count) for count in counts])
        order = np.argsort(steps, kind="stable")
        chunks = np.concatenate([each.chunks for each in runs])[order]
        numbers = (steps + np.repeat([run.number for run in runs], counts))[order]
        gates, going = net.encode(chunks, numbers), np.bincount(steps).tolist()
        hidden = np.stack([run.hidden for run in runs])
        cell = np.stack([run.cell for run in runs])
    hidden, cells = net.recur(gates, going, hidden, cell)
    for index, (run, count) in enumerate(zip(runs, counts, strict=True)):
        run.hidden, run.cell = hidden[:count, index], cells[:count, index]
        run.probabilities = net.probabilities(run.hidden)
        run.chunks = _NO_CHUNKS


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

    def push(self, powers: list[float], voices: list[bool]) -> list[bool]:
        """Take the next slots; return whether each is loud enough for the voice it may hold."""
        loudest, noise, newest, slots = self._loudest, self._noise, self._newest, self._slots
        found: list[bool] = []
        for power, is_voice in zip(powers, voices, strict=True):
            if power < newest:
                newest = power
            slots += 1
            if slots % _BLOCK_SLOTS == 0:
                self._noises.append(newest)
                noise, newest = min(self._noises), math.inf
            loudest *= _FADE
            if is_voice:
                quiet = max(self._least, noise * _NOISE_MARGIN, loudest * _RANGE)
                is_voice = power >= min(self._most, quiet)
                if is_voice and power > loudest:
                    loudest = power
            found.append(is_voice)
        self._loudest, self._noise, self._newest, self._slots = loudest, noise, newest, slots
        return found


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
    """The weights, and what they do."""

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
        # sigmoid(x) = 1 / (1 + exp(-x)): the sign is in the weights. The gate that has tanh() comes
        # last, the others in one.
        signs = np.repeat(np.array([-1.0, -1.0, -1.0, 1.0], dtype=np.float32), _UNITS)
        order = np.arange(4 * _UNITS).reshape(4, _UNITS)[[0, 1, 3, 2]].ravel()
        self._from_input = np.ascontiguousarray(weights["lstm_weight_ih"][order].T * signs)
        self._from_hidden = np.ascontiguousarray(weights["lstm_weight_hh"][order].T * signs)
        self._gate_bias = (weights["lstm_bias_ih"] + weights["lstm_bias_hh"])[order] * signs
        self._output = np.ascontiguousarray(weights["output_weight"].reshape(-1))
        self._output_bias = float(weights["output_bias"][0])

    def encode(self, chunks: FloatArray, numbers: npt.NDArray[np.int64]) -> FloatArray:
        """Return what chunks add to the gates of the recurrent layer: ``(chunks, 512)``.

        Args:
            chunks: ``(chunks, 576)``.
            numbers: of each in its stream, which give it its place.
        """
        places = numbers % _BLOCK
        if len(numbers) <= _BLOCK * _MAX_BLOCKS and (np.diff(numbers) == 1).all():
            # A stream alone: of its chunks, one after the other, each eight fill a block.
            rows = places + np.arange(len(chunks)) // _BLOCK * _BLOCK
            alone: FloatArray = self._encode(chunks, rows, -(-len(chunks) // _BLOCK))[rows]
            return alone
        # The first chunk with a place goes to the first block, the second to the second, ...
        order = np.argsort(places, kind="stable")
        ends = np.cumsum(np.bincount(places, minlength=_BLOCK))
        firsts = np.concatenate([[0], ends[:-1]])
        block = np.empty(len(chunks), dtype=np.int64)
        block[order] = np.arange(len(chunks)) - firsts[places[order]]
        gates = np.empty((len(chunks), 4 * _UNITS), dtype=np.float32)
        for first in range(0, int(block.max()) + 1, _MAX_BLOCKS):
            (chosen,) = np.nonzero((block >= first) & (block < first + _MAX_BLOCKS))
            rows = (block[chosen] - first) * _BLOCK + places[chosen]
            blocks = int(block[chosen].max()) - first + 1
            gates[chosen] = self._encode(chunks[chosen], rows, blocks)[rows]
        return gates

    def _encode(self, chunks: FloatArray, rows: npt.NDArray[np.int64], blocks: int) -> FloatArray:
        """Return the same of few chunks at ``rows`` of so many blocks, for now: it is scratch."""
        scratch, places, count = _scratch, blocks * _BLOCK, len(chunks)
        mirrored, frames = scratch.mirrored[:count], scratch.frames[:count]
        mirrored[:, :_CHUNK_WITH_CONTEXT] = chunks
        mirrored[:, _CHUNK_WITH_CONTEXT:] = chunks[:, -2 : -2 - _CONTEXT_SAMPLES : -1]
        np.multiply(scratch.overlapping[:count], _HANN, out=frames)
        # NumPy transforms float32 as float64, too, and takes six times as long to convert it.
        in_double, of_double = scratch.in_double[:count], scratch.of_double[:count]
        np.copyto(in_double, frames)
        np.fft.rfft(in_double, out=of_double)
        spectrum = scratch.spectrum[:count]
        np.copyto(spectrum, of_double.view(np.float64), casting="same_kind")
        np.square(spectrum, out=spectrum)
        size = np.add(spectrum[..., ::2], spectrum[..., 1::2], out=scratch.size[:count])
        # Not abs(): it may round differently at the end of an array.
        np.sqrt(size, out=size)
        taps = scratch.taps[:places]
        taps[rows, :, _BINS : 2 * _BINS] = size
        taps[rows, 1:, :_BINS] = size[:, :-1]
        taps[rows, :-1, 2 * _BINS :] = size[:, 1:]
        first = self._layer(0, taps.reshape(blocks, -1, 3 * _BINS)).reshape(-1, 4, _UNITS)
        pairs = scratch.pairs[:places]
        pairs[:, 0, _UNITS:] = first[:, :2].reshape(-1, 2 * _UNITS)
        pairs[:, 1] = first[:, 1:].reshape(-1, 3 * _UNITS)
        second = self._layer(1, pairs.reshape(blocks, -1, 3 * _UNITS))
        third = self._layer(2, second.reshape(blocks, _BLOCK, -1))
        fourth = self._layer(3, third)
        gates: FloatArray = np.matmul(fourth, self._from_input, out=scratch.gates[:blocks])
        gates += self._gate_bias
        return gates.reshape(places, -1)

    def _layer(self, index: int, inputs: FloatArray) -> FloatArray:
        outputs = _scratch.layers[index][: len(inputs)]
        np.matmul(inputs, self._filters[index], out=outputs)
        outputs += self._biases[index]
        return np.maximum(outputs, 0, out=outputs)

    def recur(
        self, gates: FloatArray, going: Sequence[int], hidden: FloatArray, cell: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Take the chunks of streams; return hidden and cell after each.

        Args:
            gates: of the first chunk of each stream, then of the second, ``(chunks, 512)``.
            going: number of streams that have a first chunk, a second, and so on; those that have
                most come first.
            hidden: of each stream before its chunks, ``(streams, 128)``.
            cell: likewise.

        Returns:
            Two ``(most chunks, streams, 128)``; what is beyond a stream's last chunk is undefined.
        """
        shape = (2, len(going), going[0], _UNITS)
        hiddens, cells = np.empty(shape, dtype=np.float32)
        values = np.empty((going[0], 1, 4 * _UNITS), dtype=np.float32)
        # Beyond exp(88) a share is 0, as it should be.
        with np.errstate(over="ignore"):
            if len(gates) == len(going):
                # One stream: the same without the axis of streams, which costs as much as the sums.
                self._recur(gates, hidden[0], cell[0], values[0, 0], hiddens[:, 0], cells[:, 0])
                return hiddens, cells
            first = step = 0
            for count, steps in ((n, len(list(each))) for n, each in groupby(going)):
                of_all = gates[first : first + count * steps].reshape(steps, count, -1)
                out = (each[step : step + steps, :count] for each in (hiddens, cells))
                self._recur(of_all, hidden[:count], cell[:count], values[:count, 0], *out)
                first, step = first + count * steps, step + steps
                hidden, cell = hiddens[step - 1], cells[step - 1]
        return hiddens, cells

    def _recur(
        self,
        gates: FloatArray,
        hidden: FloatArray,
        cell: FloatArray,
        values: FloatArray,
        hiddens: FloatArray,
        cells: FloatArray,
    ) -> None:
        """Take chunks of the same streams, ``(chunks, ..., 512)``; fill in the states after each.

        Args:
            gates: as above.
            hidden: before the first, ``(..., 128)``.
            cell: likewise.
            values: becomes scratch, ``(..., 512)``.
            hiddens: becomes ``(chunks, ..., 128)``.
            cells: likewise.
        """
        # A stack of products of a vector and a matrix.
        product = values if values.ndim == 1 else values[:, None]
        shares, new = values[..., : 3 * _UNITS], values[..., 3 * _UNITS :]
        take, keep, show = (shares[..., at : at + _UNITS] for at in range(0, 3 * _UNITS, _UNITS))
        for of_step, hidden_after, cell_after in zip(gates, hiddens, cells, strict=True):
            vector = hidden if values.ndim == 1 else hidden[:, None]
            np.matmul(vector, self._from_hidden, out=product)
            values += of_step
            np.exp(shares, out=shares)
            shares += _ONE
            np.divide(_ONE, shares, out=shares)
            np.tanh(new, out=new)
            new *= take
            np.multiply(keep, cell, out=cell_after)
            cell_after += new
            np.tanh(cell_after, out=hidden_after)
            hidden_after *= show
            hidden, cell = hidden_after, cell_after

    def probabilities(self, hidden: FloatArray) -> list[float]:
        """Return the probability of speech for each of ``(chunks, 128)``."""
        # A dot product for each row, not one of matrix and vector, for the same reason as above.
        logits = np.vecdot(np.maximum(hidden, 0), self._output).tolist()
        return [1 / (1 + math.exp(-(logit + self._output_bias))) for logit in logits]


_ONE = np.float32(1)
_BINS = 129
_FFT = 256
_HANN = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_FFT) / _FFT)).astype(np.float32)
_NO_CHUNKS: FloatArray = np.empty((0, _CHUNK_WITH_CONTEXT), dtype=np.float32)
_BLOCK = 8
"""Chunks of one product. Larger products are hardly cheaper a chunk, and empty places cost."""
_MAX_BLOCKS = 4
"""Blocks that are computed at once: what lies between layers stays in a core's cache."""

_MAX_STREAMS = 32
"""Streams that are computed at once: of more a step costs the same for each."""


class _Scratch(threading.local):
    """What lies between layers, of each thread: new memory costs more than what is done to it."""

    def __init__(self) -> None:
        most = _BLOCK * _MAX_BLOCKS
        # A chunk with its context, and 64 of its samples once more, backwards.
        self.mirrored = np.empty((most, _CHUNK_WITH_CONTEXT + _CONTEXT_SAMPLES), dtype=np.float32)
        row, one = self.mirrored.strides
        self.overlapping = np.lib.stride_tricks.as_strided(
            self.mirrored, (most, 4, _FFT), (row, _FFT // 2 * one, one)
        )
        self.frames = np.empty((most, 4, _FFT), dtype=np.float32)
        self.in_double = np.empty((most, 4, _FFT))
        self.of_double = np.empty((most, 4, _BINS), dtype=np.complex128)
        # Real and imaginary parts in turn.
        self.spectrum = np.empty((most, 4, 2 * _BINS), dtype=np.float32)
        self.size = np.empty((most, 4, _BINS), dtype=np.float32)
        self.taps = np.zeros((most, 4, 3 * _BINS), dtype=np.float32)
        self.pairs = np.zeros((most, 2, 3 * _UNITS), dtype=np.float32)
        self.layers = [
            np.empty((_MAX_BLOCKS, _BLOCK * rows, units), dtype=np.float32)
            for rows, units in ((4, 128), (2, 64), (1, 64), (1, 128))
        ]
        self.gates = np.empty((_MAX_BLOCKS, _BLOCK, 4 * _UNITS), dtype=np.float32)


_scratch = _Scratch()


@cache
def network() -> Network:
    """Return the network with the published weights."""
    with np.load(Path(__file__).with_name("silero.npz")) as weights:
        return Network(dict(weights))
