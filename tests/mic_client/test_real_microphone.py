"""A microphone through a real sound server and PortAudio."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from mic_client import make_sample_call
from tests.requirements import REPOSITORY
from tests.support.pulse import VirtualMicrophone, virtual_microphone

RATE_HZ = 16_000


@pytest.fixture
def microphone() -> Iterator[VirtualMicrophone]:
    with tempfile.TemporaryDirectory() as folder, virtual_microphone(Path(folder)) as microphone:
        yield microphone


def correlation(signal: npt.NDArray[np.float64], recording: npt.NDArray[np.float64]) -> float:
    """Return the largest normalised correlation of a signal with a part of a recording."""
    size = 1 << (len(signal) + len(recording)).bit_length()
    spectra = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(signal, size))
    products = np.fft.irfft(spectra, size)[: len(recording) - len(signal)]
    energy = np.concatenate([[0.0], np.cumsum(np.square(recording))])
    energies = (energy[len(signal) :] - energy[: -len(signal)])[: len(products)]
    powers = np.sqrt(np.maximum(energies, 1e-9) * np.square(signal).sum())
    return float((products / powers).max())


@pytest.mark.needs("portaudio", "pulseaudio")
def test_what_is_played_is_heard(microphone: VirtualMicrophone, tmp_path: Path):
    call, rate_hz = make_sample_call()
    assert rate_hz == RATE_HZ
    signal = call[int(18.4 * RATE_HZ) : int(20.4 * RATE_HZ), 1]
    soundfile.write(tmp_path / "signal.wav", signal, RATE_HZ)
    recorder = subprocess.Popen(
        [sys.executable, "-m", "tests.mic_client.record_microphone"],
        cwd=REPOSITORY,
        env=microphone.environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    try:
        assert recorder.stdin is not None
        assert recorder.stdout is not None
        # The device is running when the first block is there, and not before.
        recorded = [recorder.stdout.read(640)]
        microphone.play(tmp_path / "signal.wav")
        recorded.append(recorder.stdout.read(3 * 2 * RATE_HZ))
        rest, errors = recorder.communicate(b"", timeout=60)
    finally:
        recorder.kill()
        recorder.wait()
    recording = np.frombuffer(b"".join([*recorded, rest]), "<i2") / 32_768
    assert b"sample_rate_hz=16000" in errors
    halves = np.split(signal.astype(np.float64), 2)
    assert [correlation(half, recording) > 0.9 for half in halves] == [True, True], errors
