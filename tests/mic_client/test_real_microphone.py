"""A microphone through a real sound server and PortAudio."""

from __future__ import annotations

import asyncio
import json
import signal as signal_numbers
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from mic_client import load_sample_call
from tests.requirements import REPOSITORY
from tests.support.fake_stream_server import FakeStreamServer
from tests.support.pulse import VirtualMicrophone, virtual_microphone

RATE_HZ = 16_000

FloatArray = npt.NDArray[np.float64]


@pytest.fixture
def microphone() -> Iterator[VirtualMicrophone]:
    with tempfile.TemporaryDirectory() as folder, virtual_microphone(Path(folder)) as microphone:
        yield microphone


def correlation(signal: FloatArray, recording: FloatArray) -> float:
    """Return the largest normalised correlation of a signal with a part of a recording."""
    size = 1 << (len(signal) + len(recording)).bit_length()
    spectra = np.fft.rfft(recording, size) * np.conj(np.fft.rfft(signal, size))
    products = np.fft.irfft(spectra, size)[: len(recording) - len(signal)]
    energy = np.concatenate([[0.0], np.cumsum(np.square(recording))])
    energies = (energy[len(signal) :] - energy[: -len(signal)])[: len(products)]
    powers = np.sqrt(np.maximum(energies, 1e-9) * np.square(signal).sum())
    return float((products / powers).max())


def assert_heard(signal: FloatArray, recorded: bytes) -> None:
    """Check that a recording has both halves of a signal in it."""
    recording = np.frombuffer(recorded, "<i2") / 32_768
    # Apart: the sound server may shift its grid of samples by a fraction in between.
    halves = [correlation(half, recording) for half in np.split(signal, 2)]
    assert min(halves) > 0.9


@pytest.fixture
def signal(tmp_path: Path) -> FloatArray:
    """Two seconds of the sample call, in the file ``signal.wav``."""
    call, rate_hz = load_sample_call()
    assert rate_hz == RATE_HZ
    signal = call[int(18.4 * RATE_HZ) : int(20.4 * RATE_HZ), 1]
    soundfile.write(tmp_path / "signal.wav", signal, RATE_HZ)
    return signal.astype(np.float64)


@pytest.mark.needs("portaudio", "pulseaudio")
def test_what_is_played_is_heard(microphone: VirtualMicrophone, signal: FloatArray, tmp_path: Path):
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
    assert b"sample_rate_hz=16000" in errors
    assert_heard(signal, b"".join([*recorded, rest]))


@pytest.mark.needs("portaudio", "pulseaudio")
async def test_the_command_streams_what_is_played(
    microphone: VirtualMicrophone, signal: FloatArray, tmp_path: Path
):
    async with FakeStreamServer().running() as server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", "from emotion_monitor import main; main()", "stream"),
            *("--mic", "--device", "pulse", "--role", "driver", "--url", server.url, "--json"),
            cwd=REPOSITORY,
            env=microphone.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            # The device is running when the first audio is there, and not before.
            await server.wait_for_audio(1)
            await asyncio.to_thread(microphone.play, tmp_path / "signal.wav")
            (stream,) = server.streams
            await server.wait_for_audio(len(stream.audio) + 2 * RATE_HZ)
            process.send_signal(signal_numbers.SIGINT)
            output, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, errors
    assert json.loads(output.splitlines()[-1])["type"] == "summary"
    assert stream.discarded_samples == 0
    assert_heard(signal, bytes(stream.audio))
