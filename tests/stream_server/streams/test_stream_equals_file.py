"""A session fed a file's bytes says what the analysis of the file says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import soundfile
from msgspec import structs

from ser_engine.config import EngineConfig, ModelConfig, TimelineConfig
from ser_engine.core.factory import build_engine
from ser_engine.files import Engine, StreamResult, analyze
from stream_server.streams.session import Session
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.messages import ChannelSpec
from stream_server.wire.start import StreamSpec
from tests.stream_server.streams.sessions import points, summary, tiles

if TYPE_CHECKING:
    from tests.conftest import SpeechClip

CONFIG = EngineConfig(model=ModelConfig(name="compact", device="cpu", offline=True))
ECONOMY = replace(CONFIG, timeline=TimelineConfig(profile="economy"))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return build_engine(CONFIG)


@pytest.mark.needs("shared-data")
@pytest.mark.parametrize(("message_bytes", "config"), [(640, CONFIG), (40_001, ECONOMY)])
def test_a_stereo_file(
    engine: Engine,
    speech_clips: tuple[SpeechClip, ...],
    tmp_path: Path,
    message_bytes: int,
    config: EngineConfig,
):
    pause = np.zeros(10_001, dtype=np.float32)
    tracks = [
        np.concatenate(
            [speech_clips[first].samples[:24_000], pause, speech_clips[first + 3].samples]
        )
        for first in (0, 1)
    ]
    length = 54_321
    path = tmp_path / "call.wav"
    soundfile.write(path, np.stack([t[:length] for t in tracks], axis=1), 16_000, "PCM_16")
    pcm, _ = soundfile.read(path, dtype="int16")
    data = pcm.astype("<i2").tobytes()
    analysis = analyze(path, "stream", engine=engine, config=config)
    expected = [channel.result for channel in analysis.channels]

    session = Session(
        stream_id="id",
        spec=StreamSpec(
            AudioFormat("pcm_s16le", 16_000, 2), (ChannelSpec(role="a"), ChannelSpec(role="b"))
        ),
        model=engine.info,
        engine_config=config,
        analyse_roles={"a", "b"},
    )
    for start in range(0, len(data), message_bytes):
        session.receive(data[start : start + message_bytes])
        while session.has_backlog:
            for channel, window in session.advance():
                session.answer(channel, window, engine.step([window])[0])
    for channel, window in session.finish():
        session.answer(channel, window, engine.step([window])[0])
    session.close("stopped", at=0.0)
    results = session.take_results()

    for channel, file_result in enumerate(expected):
        assert isinstance(file_result, StreamResult)
        ours = points(results, channel)
        assert len(ours) == len(file_result.points) >= (4 if config is CONFIG else 2)
        for one, other in zip(ours, file_result.points, strict=True):
            assert (one.start_sample, one.end_sample) == (other.start_sample, other.end_sample)
            assert (one.label, one.provisional) == (other.label, other.provisional)
            # Both are published with six decimals: what floats differ by can move the last one.
            np.testing.assert_allclose(one.posteriors, other.posteriors, rtol=0, atol=1.5e-6)
        theirs = sorted((*file_result.segments, *file_result.gaps), key=lambda e: e.start_sample)
        assert [(e.start_sample, e.end_sample) for e in tiles(results, channel)] == [
            (e.start_sample, e.end_sample) for e in theirs
        ]

    measured, of_file = summary(results).measures, analysis.measures
    assert measured is not None and of_file is not None
    assert measured.channels[0].talk_s > 1
    # A file does not know who speaks.
    for mine, in_file in zip(measured.channels, of_file.channels, strict=True):
        assert structs.replace(mine, role="") == structs.replace(in_file, role="")
    assert structs.replace(measured, channels=()) == structs.replace(of_file, channels=())
