"""Windows come whole out of what was sent of them."""

from __future__ import annotations

import numpy as np
import pytest

from ser_engine.types import FloatArray, Window
from stream_server.engines.window_audio import KeptAudio, SentAudio, packed

STEP, WINDOW = 800, 6400


def audio(seed: int, kind: str = "resampled") -> FloatArray:
    rng = np.random.default_rng(seed)
    if kind == "16 bit":
        return (rng.integers(-9000, 9000, 40_000) / 32_768).astype(np.float32)
    return (rng.normal(0, 0.1, 40_000) * np.linspace(1e-6, 1, 40_000)).astype(np.float32)


def windows(samples: FloatArray, key: str | None = "one") -> list[Window]:
    """What a stream asks for: it grows, then it moves by a step."""
    ends = range(STEP, len(samples), STEP)
    return [Window(samples[max(0, end - WINDOW) : end], max(0, end - WINDOW), key) for end in ends]


@pytest.mark.parametrize("kind", ["16 bit", "resampled"])
def test_only_new_samples_are_sent_and_every_engine_gets_the_same(kind: str):
    sent, kept = SentAudio(), KeptAudio()
    total = 0
    for number, window in enumerate(windows(audio(1, kind))):
        layout, frame = sent.pack(number, window)
        total += len(frame)
        samples = kept.unpack(number, "one", layout, frame)
        # One that has not heard of the stream yet.
        other = KeptAudio()
        if number:
            assert other.unpack(number, "one", layout, frame) is None
        again = sent.pack(number, window, whole=True)
        np.testing.assert_array_equal(samples, other.unpack(number, "one", *again))
        if kind == "16 bit":
            np.testing.assert_array_equal(samples, window.samples)
    assert total == 2 * STEP * (number + 1)


def test_samples_that_differ_from_those_sent_before_are_sent():
    sent, kept = SentAudio(), KeptAudio()
    first, *_ = windows(audio(1))
    other = audio(2)
    for number, window in enumerate(
        [
            first,
            Window(other[:STEP], 0, "one"),  # the same time with other samples
            Window(other[: STEP - 100], 0, "one"),  # a shorter one
            Window(other[STEP:WINDOW], STEP, "one"),  # a hole in between
            Window(other[:WINDOW], 0, "one"),  # one that begins before
            Window(other[160:WINDOW], 160, "one"),  # nothing new
        ]
    ):
        samples = kept.unpack(number, "one", *sent.pack(number, window))
        assert samples is not None
        np.testing.assert_allclose(samples, window.samples, rtol=0, atol=1e-5)
    layout, frame = sent.pack(6, Window(other[320:WINDOW], 320, "one"))
    assert (layout.after, len(frame)) == (5, 0)


def test_an_engine_keeps_as_much_as_it_may():
    sent, kept = SentAudio(), KeptAudio(most_samples=2 * WINDOW)
    streams = {key: windows(audio(each), key)[-2:] for each, key in enumerate("abc")}
    for number, (key, two) in enumerate(streams.items()):
        assert kept.unpack(number, key, *sent.pack(number, two[0])) is not None
    has = [
        kept.unpack(9 + each, key, *sent.pack(9 + each, streams[key][1])) is not None
        for each, key in enumerate("abc")
    ]
    assert has == [False, True, True]
    kept.forget("b")
    sent.forget("c")
    assert sent.pack(20, streams["c"][1])[0].after == -1
    assert kept.unpack(21, "b", *sent.pack(21, streams["b"][1])) is None


@pytest.mark.parametrize("peak", [1.0, 0.3, 1e-6])
def test_packed_samples_are_rounded_far_below_their_peak(peak: float):
    samples = np.random.default_rng(0).uniform(-peak, peak, 8000).astype(np.float32)
    scale, small = packed(samples)
    assert small.dtype == np.int16
    assert np.abs(small * np.float32(scale) - samples).max() < peak / 60_000


def test_samples_that_are_no_sound_go_as_they_are():
    samples = np.array([0.0, np.nan, 1.0], np.float32)
    layout, frame = SentAudio().pack(0, Window(samples, 0, "one"))
    same = KeptAudio().unpack(0, "one", layout, frame)
    assert same is not None and same.tobytes() == samples.tobytes()


def test_a_frame_that_is_not_as_it_says_is_refused():
    layout, frame = SentAudio().pack(0, windows(audio(1))[0])
    with pytest.raises(ValueError, match="expected"):
        KeptAudio().unpack(0, "one", layout, bytes(frame)[:-2])
