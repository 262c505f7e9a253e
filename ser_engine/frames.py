"""Sample, frame and time arithmetic, in one place.

The clock of a stream is an integer sample index at 16 kHz. The encoder turns samples into
frames: frame ``k`` reads the 400 samples ``[320 k, 320 k + 400)`` and stands for the 320 samples
``[320 k, 320 k + 320)``, its *slot*. Slots tile the stream without overlap, which makes them
the unit in which a timeline is accounted for::

    samples  0        320       640       960
    frame 0  [---------400-------]
    frame 1           [---------400-------]
    slot 0   [--320--)
    slot 1            [--320--)

Every model in this package uses this grid (20 ms hop, 25 ms receptive field). A 10 ms timeline
interleaves a second pass whose audio starts 160 samples later.
"""

from __future__ import annotations

SAMPLE_RATE_HZ = 16_000
"""Rate of every waveform inside the engine, in samples per second."""

HOP_SAMPLES = 320
"""Samples between the starts of successive frames: 20 ms."""

HALF_HOP_SAMPLES = HOP_SAMPLES // 2
"""Shift of the second pass that gives a 10 ms timeline."""

RECEPTIVE_FIELD_SAMPLES = 400
"""Samples one frame of the convolutional extractor reads: 25 ms."""

FRAME_RATE_HZ = SAMPLE_RATE_HZ // HOP_SAMPLES
"""Frames per second of one pass: 50."""


def num_frames(num_samples: int) -> int:
    """Return how many whole frames fit into ``num_samples`` samples (0 below 400)."""
    if num_samples < RECEPTIVE_FIELD_SAMPLES:
        return 0
    return (num_samples - RECEPTIVE_FIELD_SAMPLES) // HOP_SAMPLES + 1


def span_samples(frames: int) -> int:
    """Return how many samples ``frames`` successive frames read (0 for none)."""
    if frames <= 0:
        return 0
    return (frames - 1) * HOP_SAMPLES + RECEPTIVE_FIELD_SAMPLES


def ms_to_samples(milliseconds: float) -> int:
    """Return the number of 16 kHz samples nearest to ``milliseconds``."""
    return round(milliseconds * SAMPLE_RATE_HZ / 1000)


def samples_to_s(samples: int) -> float:
    """Return the time in seconds of a sample index. For the edges only: never add up results."""
    return samples / SAMPLE_RATE_HZ
