from __future__ import annotations

import io
import wave
from pathlib import Path

import numpy as np
import pytest

import ser_engine
from examples import embed_live_scoring
from examples.embed_live_scoring import chunks, describe, main, timeline
from ser_engine import EngineConfig, Gap, Point, Segment
from ser_engine.config import VadConfig
from tests.support.fake_engine import FakeEngine

CONFIG = EngineConfig(vad=VadConfig(detector="off"))


@pytest.fixture(autouse=True)
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    engine = FakeEngine()
    monkeypatch.setattr(embed_live_scoring, "open_engine", lambda config: engine)
    return engine


def test_every_public_name_is_there() -> None:
    assert all(getattr(ser_engine, name) is not None for name in ser_engine.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = ser_engine.nothing


def test_live_audio_becomes_points_and_segments(engine: FakeEngine) -> None:
    audio = np.repeat(np.array([0.1, 0.2], np.float32), 48_000)
    events = list(timeline(np.array_split(audio, 61), CONFIG))
    labels = [event.label for event in events if isinstance(event, Point)]
    assert (labels[0], labels[-1]) == ("angry", "happy")
    assert [e.label for e in events if isinstance(e, Segment) and e.final] == ["angry", "happy"]
    assert len(engine.windows) > 5


def test_raw_audio_is_scaled_to_full_scale() -> None:
    raw = np.array([0, 16384, -32768], "<i2").tobytes() + b"x"
    np.testing.assert_array_equal(np.concatenate(list(chunks(io.BytesIO(raw), 2))), [0, 0.5, -1])


def test_a_file_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "call.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.zeros(32_000, "<i2").tobytes())
    main(str(path))
    assert capsys.readouterr().out == "   2.00 s  (silence)\n"
    gap = Gap(start_sample=0, end_sample=16_000, reason="lost", final=False)
    assert describe(gap) == ""
