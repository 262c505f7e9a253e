from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from benchmarks.speech_detection import TONES, tone
from ser_engine.config import VadConfig
from ser_engine.timeline import make_detector
from ser_engine.timeline.silero import (
    Network,
    QuietFloor,
    SileroDetector,
    hear_together,
    network,
)
from ser_engine.timeline.slots import SILENCE, SPEECH, TONE, add_states
from ser_engine.types import FloatArray

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

CONFIG = VadConfig(hangover_ms=0)
RATE = 16_000


def share(states: list[int] | FloatArray, state: int = SPEECH) -> float:
    return float(np.mean(np.array(states) == state))


def states_of(audio: FloatArray, config: VadConfig = CONFIG) -> list[int]:
    return list(make_detector(config).push(audio))


def at_level(clip: FloatArray, dbfs: float) -> FloatArray:
    level: FloatArray = clip * np.float32(10 ** (dbfs / 20) / np.sqrt(np.mean(clip**2)))
    return level


def probabilities(net: Network, audio: FloatArray) -> list[float]:
    padded = np.concatenate([np.zeros(64, np.float32), audio])
    chunks = np.lib.stride_tricks.sliding_window_view(padded, 576)[::512]
    nothing = np.zeros((1, 128), np.float32)
    count = len(chunks)
    hidden, _ = net.recur(net.encode(chunks, np.arange(count)), [1] * count, nothing, nothing)
    return net.probabilities(hidden[:, 0])


@pytest.mark.needs("silero", "onnxruntime", "shared-data")
def test_the_network_is_the_published_one(speech_clips: tuple[SpeechClip, ...]):
    import onnxruntime

    found = importlib.util.find_spec("silero_vad")
    assert found and found.submodule_search_locations
    path = Path(found.submodule_search_locations[0]) / "data" / "silero_vad.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    audio = np.concatenate([clip.samples[: 2 * RATE] for clip in speech_clips])
    audio = audio[: len(audio) // 512 * 512]
    state, context = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32)
    expected = []
    for chunk in audio.reshape(-1, 512):
        heard = np.concatenate([context, chunk])[None]
        output, state = session.run(
            None, {"input": heard, "state": state, "sr": np.array(RATE, np.int64)}
        )
        expected.append(float(output[0, 0]))
        context = chunk[-64:]
    assert min(expected) < 0.1 < 0.9 < max(expected)
    assert probabilities(network(), audio) == pytest.approx(expected, abs=1e-3)


@pytest.mark.needs("shared-data")
def test_speech_is_told_from_silence_noise_and_tones(speech_clips: tuple[SpeechClip, ...]):
    noise = np.random.default_rng(0).standard_normal(2 * RATE).astype(np.float32) * np.float32(0.02)
    for clip in speech_clips:
        detector = make_detector(CONFIG)
        assert share(list(detector.push(noise))) == 0
        assert share(list(detector.push(at_level(clip.samples, -26)))) > 0.3, clip.corpus
        detector.push(np.zeros(RATE // 5, dtype=np.float32))
        assert share(list(detector.push(np.zeros(RATE, dtype=np.float32)))) == 0
        of_tone = bytearray()
        # A tone may begin like a voice: it is dated back.
        add_states(of_tone, detector.push(tone(TONES["busy_us"], 2.0)))
        assert share(list(of_tone), TONE) > 0.95


@pytest.mark.needs("shared-data")
def test_how_audio_is_split_does_not_matter(
    speech_clips: tuple[SpeechClip, ...], rng: np.random.Generator
):
    silence = np.zeros(5000, dtype=np.float32)
    audio = np.concatenate(
        [speech_clips[0].samples[:20_000], tone(TONES["keys"], 0.7), silence, silence]
    )
    config = VadConfig()
    whole = states_of(audio, config)
    assert len(whole) == len(audio) // 320
    assert set(whole) == {SILENCE, SPEECH, TONE}
    for _ in range(5):
        detector, states = make_detector(config), list[int]()
        for part in np.split(audio, np.sort(rng.integers(0, len(audio), 40))):
            states += detector.push(part)
        assert states == whole


@pytest.mark.needs("shared-data")
def test_gates_are_the_same_to_the_last_bit_whatever_comes_with_them(
    speech_clips: tuple[SpeechClip, ...], rng: np.random.Generator
):
    chunks = speech_clips[0].samples[: 37 * 576].reshape(-1, 576)
    numbers = np.arange(5, 5 + len(chunks))
    together = network().encode(chunks, numbers)
    for count in (1, 2, 5, 16):
        parts = [slice(at, at + count) for at in range(0, len(chunks), count)]
        gates = [network().encode(chunks[part], numbers[part]) for part in parts]
        assert np.array_equal(np.concatenate(gates), together)
    # Two streams in step, whose numbers span no more than a single stream's would.
    six, in_step = chunks[:6], numbers[:6] - numbers[0]
    both = network().encode(six[[0, 3, 1, 4, 2, 5]], in_step[[0, 3, 1, 4, 2, 5]])
    assert np.array_equal(both[[0, 2, 4, 1, 3, 5]], network().encode(six, in_step))
    others = rng.standard_normal((200, 576)).astype(np.float32)
    order = rng.permutation(len(chunks) + len(others))
    mixed = network().encode(
        np.concatenate([chunks, others])[order],
        np.concatenate([numbers, rng.integers(0, 1000, len(others))])[order],
    )
    assert np.array_equal(mixed[np.argsort(order)[: len(chunks)]], together)


@pytest.mark.needs("shared-data")
def test_streams_are_heard_together_as_each_alone(
    speech_clips: tuple[SpeechClip, ...], rng: np.random.Generator
):
    audios = [clip.samples for clip in speech_clips]
    alone = [states_of(audio, VadConfig()) for audio in audios]
    detectors = [SileroDetector(VadConfig()) for _ in audios]
    states: list[list[int]] = [[] for _ in audios]
    taken = [0] * len(audios)
    for _ in range(100):
        lengths = rng.integers(0, 6000, len(audios)).tolist()
        places = zip(audios, taken, lengths, strict=True)
        coming = [audio[at : at + length] for audio, at, length in places]
        # What is heard ahead may be pushed in parts, and more of it may be announced meanwhile.
        hear_together(zip(detectors, coming, strict=True))
        for index, (audio, length) in enumerate(zip(audios, lengths, strict=True)):
            pushed = int(rng.choice([length, length // 2, length + 700]))
            part = audio[taken[index] : taken[index] + pushed]
            states[index] += detectors[index].push(part)
            taken[index] += len(part)
    assert taken == [len(audio) for audio in audios]
    assert states == alone


@pytest.mark.needs("shared-data")
def test_other_audio_than_was_heard_ahead_is_heard_anew(speech_clips: tuple[SpeechClip, ...]):
    audio, silence = speech_clips[0].samples[:16_000], np.zeros(8_000, dtype=np.float32)
    expected = states_of(np.concatenate([audio, silence]))
    detector = SileroDetector(CONFIG)
    states = detector.push(audio)
    hear_together([(detector, speech_clips[1].samples[:8_000])])
    assert states + detector.push(silence) == expected
    # A gap forgets it as well.
    hear_together([(detector, audio)])
    detector.skip(1)
    assert detector.push(audio) + detector.push(silence) == expected


@pytest.mark.needs("shared-data")
def test_a_gap_forgets_everything(speech_clips: tuple[SpeechClip, ...]):
    audio: FloatArray = np.concatenate([speech_clips[0].samples[:16_001], tone(TONES["keys"], 0.3)])
    detector = make_detector(CONFIG)
    first = detector.push(audio)
    detector.skip(1)
    assert detector.push(audio) == first


@pytest.mark.needs("shared-data")
def test_a_quiet_voice_is_heard(speech_clips: tuple[SpeechClip, ...]):
    def heard(dbfs: float, config: VadConfig = CONFIG) -> float:
        """Share of the slots with sound, within 30 dB of the loudest of their clip."""
        shares = []
        for clip in speech_clips:
            audio = at_level(clip.samples[: len(clip.samples) // 320 * 320], dbfs)
            powers = np.square(audio.reshape(-1, 320)).mean(axis=1)
            states = np.array(states_of(audio, config))
            shares.append(share(states[powers > powers.max() / 1000]))
        return float(np.mean(shares))

    assert heard(-26) > 0.9
    assert heard(-66) > 0.8
    assert heard(-66, VadConfig(hangover_ms=0, lowest_level_dbfs=-60)) < 0.5


@pytest.mark.needs("shared-data")
def test_a_quiet_echo_beside_a_voice_is_silence(speech_clips: tuple[SpeechClip, ...]):
    voice, echo = at_level(speech_clips[0].samples, -20), at_level(speech_clips[1].samples, -72)
    states = states_of(np.concatenate([voice, np.zeros(RATE, np.float32), echo]))
    assert share(states[-(len(echo) // 320) :]) == 0


def test_the_floor_follows_voice_and_noise():
    floor = QuietFloor(VadConfig())
    # -75 dBFS in nothing; below the lowest level.
    assert floor.push([10**-7.5, 10**-9.5], [True, True]) == [True, False]
    noisy = QuietFloor(VadConfig())
    assert noisy.push([10**-7.8] * 100, [False] * 100) == [False] * 100
    # 3 dB above it; 8 dB; -59 dBFS, which is never too little.
    assert noisy.push([10**-7.5, 10**-7.0, 10**-5.9], [True] * 3) == [False, True, True]


@pytest.mark.needs("shared-data")
def test_no_level_is_too_little_that_is_asked_for(speech_clips: tuple[SpeechClip, ...]):
    config = VadConfig(min_level_dbfs=0, lowest_level_dbfs=0)
    assert SPEECH not in states_of(speech_clips[0].samples, config)
