from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from ser_engine.config import EngineConfig, VadConfig
from ser_engine.errors import AudioError, WindowError
from ser_engine.files import Granularity, analyze_channel, analyze_file
from ser_engine.files.audio import read_audio
from tests.ser_engine.files.jobs import plain
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

CONFIG = EngineConfig(vad=VadConfig(detector="off"))
GRANULARITIES: list[Granularity] = ["utterance", "frame", "stream"]


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    channels = [make_audio((90_000, 0.1)), make_audio((90_000, 0.3), seed=1)]
    # Not 8 kHz: of such a file it is known that its band is narrow, of the array it is not.
    soundfile.write(tmp_path / "a.wav", np.stack(channels, axis=1), 12_000, subtype="FLOAT")
    return tmp_path / "a.wav"


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_channels_are_kept_apart(granularity: Granularity, stereo: Path) -> None:
    results = analyze_file(FakeEngine(), stereo, granularity, CONFIG)
    alone = [
        analyze_channel(FakeEngine(), channel, granularity, CONFIG)
        for channel in read_audio(stereo, as_streamed=granularity == "stream")
    ]
    assert list(map(plain, results)) == list(map(plain, alone))
    assert plain(results[0]) != plain(results[1])


def test_a_short_file_is_refused_by_name(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", np.zeros(22), 44_100)
    with pytest.raises(AudioError, match=r"short\.wav: got 8 samples at 16 kHz"):
        analyze_file(FakeEngine(), tmp_path / "short.wav")


def test_a_failure_names_the_file(stereo: Path) -> None:
    engine = FakeEngine()
    engine.fail_when = lambda window: True
    with pytest.raises(WindowError, match=r"a\.wav: "):
        analyze_file(engine, stereo)


@pytest.mark.needs("shared-data")
def test_a_call_of_two_channels(shared_data: Path) -> None:
    path = shared_data / "calls" / "two_channel_agent_customer_16k.wav"
    agent, customer = analyze_file(FakeEngine(), path, "stream")
    assert plain(agent) != plain(customer)
