"""A recording in one call, and the engine that is kept for the next one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import soundfile
import torch

from ser_engine import analyze
from ser_engine.config import EngineConfig, ModelConfig, OfflineConfig, PresetConfig, TimelineConfig
from ser_engine.core import factory
from ser_engine.errors import AudioError, ConfigError
from ser_engine.files import ArraySource, FrameResult, Granularity, StreamResult
from ser_engine.files import run as one_call
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[tuple[EngineConfig, FakeEngine]]:
    """The engines that were made."""
    made: list[tuple[EngineConfig, FakeEngine]] = []

    def build(config: EngineConfig) -> FakeEngine:
        made.append((config, FakeEngine()))
        return made[-1][1]

    monkeypatch.setattr(factory, "build_engine", build)
    return made


@pytest.fixture(autouse=True)
def no_engine_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_call, "_engines", type(one_call._engines)())


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "call.wav", make_audio((32_000, 0.1)), 16_000)
    return tmp_path / "call.wav"


def test_three_lines(recording: Path, built: list[tuple[EngineConfig, FakeEngine]]):
    result = analyze(recording)
    assert result.channels[0].overall is not None
    assert result.channels[0].overall.best == "angry"
    assert result.name == str(recording)


def test_the_engine_is_made_once_a_model(
    recording: Path, built: list[tuple[EngineConfig, FakeEngine]]
):
    for _ in range(3):
        analyze(recording)
        analyze(recording, "frame", preset="research")
    assert len(built) == 1
    analyze(recording, model="compact")
    analyze(recording, config=EngineConfig(model=ModelConfig(name="compact")))
    assert [config.model.name for config, _ in built] == ["auto", "compact"]
    # Two are kept; a third one takes the place of the one that was not used for longest.
    analyze(recording)
    analyze(recording, config=EngineConfig(timeline=TimelineConfig(frame_hop_ms=10)))
    analyze(recording)
    assert len(built) == 3
    analyze(recording, model="compact")
    assert len(built) == 4


def test_samples(built: list[tuple[EngineConfig, FakeEngine]]):
    audio = np.stack([make_audio((32_000, 0.1)), make_audio((32_000, 0.2))])
    analysis = analyze(audio.astype(np.float64), engine=FakeEngine())
    assert [c.overall.best for c in analysis.channels if c.overall] == ["angry", "happy"]
    assert len(analyze(audio[1], engine=FakeEngine()).channels) == 1
    assert built == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (
            np.zeros((1000, 2), np.float32),
            r"shape \(1000, 2\), .*\(channels, samples\) of at most 32",
        ),
        (np.zeros((0, 1000), np.float32), r"shape \(0, 1000\)"),
        (np.zeros((2, 399), np.float32), "got 399 samples"),
        (np.zeros(1000, np.int64), "got int64 .* or of uint8, int16, int32"),
        (np.zeros(1000, bool), "got bool"),
        ([[0.0] * 1000, [0.0] * 999], "no array"),
        (b"RIFF", "type bytes, expected the path of a file, or samples"),
        (None, "type NoneType"),
        (np.array([0.0, np.inf] * 400), "infinite"),
    ],
)
def test_wrong_samples_are_refused(wrong: Any, says: str):
    with pytest.raises(AudioError, match=says):
        analyze(wrong, engine=FakeEngine())


@pytest.mark.parametrize("granularity", ["utterance", "stream"])
@pytest.mark.parametrize("rate_hz", [8_000, 44_100])
def test_samples_of_another_rate_are_heard_as_their_file(
    tmp_path: Path, rate_hz: int, granularity: Granularity
):
    audio = np.rint(make_audio((rate_hz, 0.1), (rate_hz, 0.2)) * 32_768).astype(np.int16)
    soundfile.write(tmp_path / "call.wav", audio, rate_hz)
    of_file = analyze(tmp_path / "call.wav", granularity, engine=FakeEngine()).document()
    samples: list[Any] = [audio, audio / 32_768, torch.from_numpy(audio), (audio / 2**15).tolist()]
    for each in samples:
        of_array = analyze(each, granularity, sample_rate_hz=rate_hz, engine=FakeEngine())
        assert msgspec.structs.replace(of_array.document(), name=of_file.name) == of_file
    with pytest.raises(AudioError, match="got a sample rate of 16 Hz"):
        analyze(audio, sample_rate_hz=16, engine=FakeEngine())


def test_integers_have_the_full_scale_of_their_type():
    quarter = {np.uint8: 160, np.int16: 1 << 13, np.int32: 1 << 29}
    for kind, value in quarter.items():
        (block,) = ArraySource(np.full(400, value, kind)).blocks()
        assert block.dtype == np.float32
        assert (block == 0.25).all()


def test_floats_on_the_scale_of_integers_are_named():
    samples = make_audio((32_000, 0.1)) * np.float32(32_768)
    (channel,) = analyze(samples, engine=FakeEngine()).channels
    (warning,) = [each for each in channel.warnings if each.code == "clipping"]
    assert "times full scale" in warning.message
    assert "divide them by 32,768" in warning.message


def test_settings_of_another_type_are_refused():
    with pytest.raises(ConfigError, match="got a config of type dict"):
        analyze(np.zeros(1000, np.float32), config={"model": "compact"})  # type: ignore[arg-type]


def test_a_bad_file_is_named(tmp_path: Path):
    soundfile.write(tmp_path / "short.wav", np.zeros(100), 16_000)
    with pytest.raises(AudioError, match=r"short\.wav: got 100 samples"):
        analyze(tmp_path / "short.wav", engine=FakeEngine())
    with pytest.raises(AudioError) as caught:
        analyze(tmp_path / "none.wav", engine=FakeEngine())
    assert str(caught.value) == f"{tmp_path / 'none.wav'}: there is no such file"


def test_presets_and_what_goes_before_them(recording: Path):
    def options(**asked: object) -> tuple[str, bool, int]:
        found = analyze(recording, engine=FakeEngine(), **asked).options  # type: ignore[arg-type]
        return found.granularity, found.embeddings, found.frame_hop_ms

    assert options(preset="research") == ("frame", True, 10)
    assert options(preset="research", frame_hop_ms=20, embeddings=False) == ("frame", False, 20)
    assert options(preset="research", granularity="stream")[0] == "stream"
    mine = EngineConfig(offline=OfflineConfig(presets={"mine": PresetConfig("stream")}))
    assert options(preset="mine", config=mine)[0] == "stream"
    with pytest.raises(ConfigError, match="got preset 'none'"):
        options(preset="none")
    with pytest.raises(ConfigError, match="got an engine and the model 'compact'"):
        options(model="compact")


def test_10_ms_from_an_engine_of_20(recording: Path):
    (channel,) = analyze(recording, "frame", engine=FakeEngine(), frame_hop_ms=10).channels
    assert isinstance(channel.result, FrameResult)
    assert channel.result.times_s[:3].tolist() == [0.0, 0.01, 0.02]
    assert len(channel.result.logits) == 198


def test_details_of_a_stream(recording: Path):
    (channel,) = analyze(recording, "stream", engine=FakeEngine(), details=True).channels
    assert isinstance(channel.result, StreamResult)
    assert all(point.frames is not None for point in channel.result.points)


@pytest.mark.needs("real-recordings")
def test_the_built_in_model_and_a_long_call(shared_data: Path):
    """Real speech: cuts fall where nobody speaks; every way tells the same story."""
    path = shared_data / "calls" / "phone_call_mono_8k.wav"
    config = EngineConfig(
        model=ModelConfig(name="compact", offline=True), offline=OfflineConfig(pooling="all")
    )
    utterance, frame = (
        analyze(path, granularity, config=config).channels[0]
        for granularity in ("utterance", "frame")
    )
    assert 14 <= len(utterance.pieces) <= 28
    for segment in utterance.pieces[:-1]:
        assert 10 <= segment.end_s - segment.start_s <= 20
    scored = [segment for segment in utterance.pieces if segment.logits is not None]
    weights = [segment.end_sample - segment.start_sample for segment in scored]
    expected = np.average([segment.logits for segment in scored], axis=0, weights=weights)
    assert utterance.overall is not None and frame.overall is not None
    np.testing.assert_allclose(utterance.overall.logits, expected, atol=1e-3)
    # Frames of overlapping passes of 30 s against segments that are a pass each.
    np.testing.assert_allclose(frame.overall.posteriors, utterance.overall.posteriors, atol=0.05)
    assert [warning.code for warning in utterance.warnings] == ["narrow_band"]
    # A cut lies in a pause: the 100 ms around it are quieter than the segment by far.
    from ser_engine.files.audio import read_audio

    audio, loudness = read_audio(path)[0], list[float]()
    for segment in utterance.pieces[:-1]:
        around = audio[segment.end_sample - 800 : segment.end_sample + 800]
        inside = audio[segment.start_sample : segment.end_sample]
        loudness.append(float(np.square(around).mean() / np.square(inside).mean()))
    assert np.median(loudness) < 0.02
    # One range without a pause, at the end, is cut at its maximum.
    assert sorted(loudness)[-2] < 0.05


@pytest.mark.needs("shared-data")
def test_a_recording_of_one_pass_is_the_built_in_models_own_result(shared_data: Path):
    from ser_engine.files.audio import read_audio
    from ser_engine.types import Window, WindowResult

    path = shared_data / "calls" / "two_people_mono_16k.wav"
    engine = factory.build_engine(EngineConfig(model=ModelConfig(name="compact", offline=True)))
    config = EngineConfig(offline=OfflineConfig(pooling="all"))
    (channel,) = analyze(path, engine=engine, config=config).channels
    (own,) = engine.step([Window(read_audio(path)[0])])
    assert isinstance(own, WindowResult)
    assert channel.overall is not None
    expected = own.logits.mean(axis=0, dtype=np.float64).astype(np.float32)
    np.testing.assert_array_equal(channel.overall.logits, expected)
