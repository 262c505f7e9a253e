"""What each detector takes for speech: sounds without a voice, speech, and what it costs.

``python -m benchmarks.speech_detection`` prints it for ``webrtc`` and ``silero``. The recordings
are those of the shared folder. Where the speech is, is known from its clean energy: a slot counts
as speech within 35 dB of its clip's loudest one.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.speech import corpus_stream, shared_speech_dir
from ser_engine.config import VadConfig
from ser_engine.frames import HOP_SAMPLES, SAMPLE_RATE_HZ
from ser_engine.timeline import SpeechDetector, make_detector
from ser_engine.timeline.slots import SPEECH, TONE
from ser_engine.types import FloatArray
from training.augment import telephone

_LEVEL = 0.05
"""RMS of a sound: -26 dBFS."""

Cadence = tuple[tuple[tuple[float, ...], float], ...]
"""Frequencies in Hz, () for a pause, and seconds; over and over."""

TONES: dict[str, Cadence] = {
    # ITU-T E.180 supplement 2.
    "busy_us": (((480, 620), 0.5), ((), 0.5)),
    "congestion_us": (((480, 620), 0.25), ((), 0.25)),
    "ringing_us": (((440, 480), 2.0), ((), 4.0)),
    "dial_us": (((350, 440), 10.0),),
    "busy_de": (((425,), 0.48), ((), 0.48)),
    "ringing_de": (((425,), 1.0), ((), 4.0)),
    "dial_de": (((425,), 10.0),),
    "ringing_uk": (((400, 450), 0.4), ((), 0.2), ((400, 450), 0.4), ((), 2.0)),
    "busy_uk": (((400,), 0.375), ((), 0.375)),
    "ringing_cn": (((450,), 1.0), ((), 4.0)),
    "busy_cn": (((450,), 0.35), ((), 0.35)),
    "ringing_jp": (((384, 416), 1.0), ((), 2.0)),
    "information": (((950,), 0.33), ((1400,), 0.33), ((1800,), 0.33), ((), 1.0)),
    "waiting_us": (((440,), 0.3), ((), 10.0)),
    # ITU-T T.30: calling and called fax.
    "fax_calling": (((1100,), 0.5), ((), 3.0)),
    "fax_called": (((2100,), 3.0), ((), 0.5)),
    "keys": tuple(
        part
        for row, column in ((697, 1209), (770, 1336), (852, 1477), (941, 1336), (697, 1633))
        for part in (((row, column), 0.1), ((), 0.1))
    ),
    "keys_short": (((697, 1477), 0.05), ((), 0.05), ((852, 1209), 0.05), ((), 0.05)),
    "beep": (((1000,), 1.0), ((), 2.0)),
}
"""Tones of telephone networks, of which each country has its own."""


def tone(cadence: Cadence, duration_s: float, level: float = _LEVEL) -> FloatArray:
    """Return a tone: float32 (samples,) at 16 kHz."""
    parts: list[FloatArray] = []
    while sum(map(len, parts)) < duration_s * SAMPLE_RATE_HZ:
        for frequencies, length_s in cadence:
            at = np.arange(round(length_s * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
            sines = [np.sin(2 * np.pi * hz * at) for hz in frequencies]
            parts.append(np.sum([np.zeros(len(at)), *sines], axis=0).astype(np.float32))
    sound = np.concatenate(parts)[: round(duration_s * SAMPLE_RATE_HZ)]
    return sound * np.float32(level / max(float(np.sqrt(np.mean(sound[sound != 0] ** 2))), 1e-9))


def chords(duration_s: float, seed: int = 0, level: float = _LEVEL) -> FloatArray:
    """Return hold music: plucked chords over a bass, two a second."""
    rng = np.random.default_rng(seed)
    num_samples = round(duration_s * SAMPLE_RATE_HZ)
    sound = np.zeros(num_samples + 2 * SAMPLE_RATE_HZ)
    at = np.arange(2 * SAMPLE_RATE_HZ) / SAMPLE_RATE_HZ
    for start in range(0, num_samples, SAMPLE_RATE_HZ // 2):
        root = 55 * 2 ** (rng.integers(0, 12) / 12)
        for step in (0, 12, 16, 19, 24):
            hz = root * 2 ** (step / 12)
            pluck = sum(np.sin(2 * np.pi * k * hz * at) / k**1.5 for k in range(1, 6))
            sound[start : start + len(at)] += pluck * np.exp(-3 * at)
    sound = sound[:num_samples]
    music: FloatArray = (sound * level / np.sqrt(np.mean(sound**2))).astype(np.float32)
    return music


def noise(duration_s: float, seed: int = 0, level: float = _LEVEL) -> FloatArray:
    """Return white noise."""
    rng = np.random.default_rng(seed)
    hiss: FloatArray = rng.normal(0, level, round(duration_s * SAMPLE_RATE_HZ)).astype(np.float32)
    return hiss


def other_sounds(duration_s: float) -> Iterator[tuple[str, FloatArray]]:
    """Yield sounds without a voice, by name."""
    for name, cadence in TONES.items():
        yield name, tone(cadence, duration_s)
    yield "chords", chords(duration_s)
    yield "noise", noise(duration_s)
    yield "silence", noise(duration_s, level=1e-4)


def speech_and_pauses(
    folder: Path, num_clips: int, seed: int = 0
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return clips at -26 dBFS with a second of silence after each, and where the speech is.

    Returns:
        Float32 (samples,), and for each slot whether it is speech.
    """
    import soundfile

    with (folder / "manifest.csv").open(encoding="utf-8", newline="") as manifest:
        paths = [row["path"] for row in csv.DictReader(manifest)]
    pause = np.zeros(SAMPLE_RATE_HZ, dtype=np.float32)
    audio: list[FloatArray] = [pause]
    truth: list[npt.NDArray[np.bool_]] = [np.zeros(len(pause) // HOP_SAMPLES, dtype=bool)]
    for index in np.random.default_rng(seed).permutation(len(paths))[:num_clips]:
        clip, _ = soundfile.read(folder / paths[index], dtype="float32")
        clip = clip[: len(clip) // HOP_SAMPLES * HOP_SAMPLES]
        clip = clip * np.float32(_LEVEL / np.sqrt(np.mean(clip**2)))
        powers = np.square(clip.reshape(-1, HOP_SAMPLES)).mean(axis=1)
        audio += [clip, pause]
        truth += [powers > powers.max() * 10**-3.5, truth[0]]
    return np.concatenate(audio), np.concatenate(truth)


def states_of(
    config: VadConfig, audio: FloatArray, block: int = SAMPLE_RATE_HZ // 2
) -> npt.NDArray[np.int64]:
    """Return the state of each slot, pushed as a server does."""
    detector, found = make_detector(config), list[int]()
    for start in range(0, len(audio), block):
        found += detector.push(audio[start : start + block])
    return np.array(found)


def cost_ms(detectors: list[SpeechDetector], audio: FloatArray) -> float:
    """Return milliseconds of CPU a second of one stream, with a block of each stream in turn."""
    block = SAMPLE_RATE_HZ // 2
    before = time.process_time()
    for start in range(0, len(audio), block):
        for detector in detectors:
            detector.push(audio[start : start + block])
    spent = time.process_time() - before
    return 1000 * spent / len(detectors) / (len(audio) / SAMPLE_RATE_HZ)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=12.0, help="of each other sound")
    options = parser.parse_args()
    configs = {
        "webrtc": VadConfig(detector="webrtc", hangover_ms=0),
        "silero": VadConfig(detector="silero", hangover_ms=0),
    }
    conditions: dict[str, Callable[[FloatArray], FloatArray]] = {
        "16 kHz": lambda audio: audio,
        "mu-law 8 kHz": telephone,
    }
    print(f"{'taken for speech, and for a tone, %':<34}" + "".join(f"{n:>18}" for n in configs))
    for condition, change in conditions.items():
        for name, sound in other_sounds(options.seconds):
            row = f"{name + ', ' + condition:<34}"
            for config in configs.values():
                states = states_of(config, change(sound))
                shares = [100 * float(np.mean(states == state)) for state in (SPEECH, TONE)]
                row += f"{shares[0]:>10.1f}{shares[1]:>8.1f}"
            print(row)
    folder = shared_speech_dir()
    if folder is None:
        return
    audio, truth = speech_and_pauses(folder, options.clips)
    hiss = noise(len(audio) / SAMPLE_RATE_HZ + 1)[: len(audio)]
    speech_levels = {
        "clean": audio,
        "mu-law 8 kHz": telephone(audio),
        "white noise 10 dB": audio + hiss * np.float32(10**-0.5),
        "level -46 dBFS": audio * np.float32(0.1),
        "level -66 dBFS": audio * np.float32(0.01),
    }
    print(f"\n{'speech missed, false, a tone, %':<28}" + "".join(f"{n:>24}" for n in configs))
    for condition, heard in speech_levels.items():
        row = f"{condition:<28}"
        for config in configs.values():
            states = states_of(config, heard)[: len(truth)]
            missed = 100 * float(np.mean(states[truth[: len(states)]] != SPEECH))
            false = 100 * float(np.mean(states[~truth[: len(states)]] == SPEECH))
            row += f"{missed:>8.1f}{false:>8.1f}{100 * float(np.mean(states == TONE)):>8.2f}"
        print(row)
    call = np.concatenate([corpus_stream(folder, "nemo_pl", 10.0), noise(10.0, level=1e-4)])
    print("\nms of CPU a second of a stream")
    for name, config in configs.items():
        alone = cost_ms([make_detector(config)], call)
        many = cost_ms([make_detector(config) for _ in range(20)], call)
        print(f"{name:<10} alone {alone:.2f}, 20 streams in turn {many:.2f}")


if __name__ == "__main__":
    main()
