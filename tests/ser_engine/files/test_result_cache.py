from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser_engine.config import EngineConfig, OfflineConfig, VadConfig
from ser_engine.files import AnalysisOptions, FileAnalysis, SpeakerResult, analyze
from ser_engine.files.cache import (
    _CLASSES,
    DamagedDataError,
    ResultCache,
    pack,
    pack_analysis,
    unpack_analysis,
)
from ser_engine.speakers import Turn
from tests.ser_engine.timeline.streams import make_audio
from tests.support.fake_engine import FakeEngine

KEY = "a" * 64
OPTIONS = [
    AnalysisOptions("utterance"),
    AnalysisOptions("frame"),
    AnalysisOptions("frame", embeddings=True, frame_hop_ms=10),
    AnalysisOptions("stream"),
    AnalysisOptions("stream", details=True),
]


def analysis(options: AnalysisOptions = OPTIONS[0]) -> FileAnalysis:
    audio = np.stack(
        [make_audio((40_000, 0.1), (16_000, 0.0), (8_000, 0.2)), make_audio((64_000, 0.3))]
    )
    return analyze(
        audio,
        options.granularity,
        engine=FakeEngine(),
        config=EngineConfig(vad=VadConfig(detector="off")),
        embeddings=options.embeddings,
        frame_hop_ms=options.frame_hop_ms,
        details=options.details,
    )


def parts(value: Any) -> Iterator[Any]:
    """Yield what a value is made of: leaves, and the classes they are in."""
    if dataclasses.is_dataclass(value):
        yield type(value)
        for each in dataclasses.fields(value):
            yield from parts(getattr(value, each.name))
    elif isinstance(value, tuple):
        yield len(value)
        for each in value:
            yield from parts(each)
    elif isinstance(value, np.ndarray):
        yield (value.dtype, value.shape, value.tobytes())
    else:
        yield value


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_a_round_trip_is_exact(options: AnalysisOptions):
    before = analysis(options)
    after = unpack_analysis(pack_analysis(before))
    assert list(parts(after)) == list(parts(before))
    assert after.to_json() == before.to_json()


def test_speakers_are_kept():
    whole = analysis()
    turns = (
        Turn(start_sample=0, end_sample=16_000, speaker=0),
        Turn(start_sample=32_000, end_sample=48_000, speaker=0),
    )
    speaker = SpeakerResult("1", turns, 2.0, "angry", "angry", 0.5, np.array([0.5, 0.5, 0.0, 0.0]))
    channel = dataclasses.replace(whole.channels[0], speakers=(speaker,))
    before = dataclasses.replace(whole, channels=(channel,))
    assert list(parts(unpack_analysis(pack_analysis(before)))) == list(parts(before))


def classes_of(kind: Any) -> set[type]:
    """Return the dataclasses that a type may hold, at whatever depth."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        hints = typing.get_type_hints(kind)
        return {kind}.union(*(classes_of(hints[each.name]) for each in dataclasses.fields(kind)))
    return set().union(*(classes_of(each) for each in typing.get_args(kind)))


def test_every_class_of_an_analysis_can_be_kept():
    assert {each.__name__ for each in classes_of(FileAnalysis)} <= set(_CLASSES)


def test_what_is_no_analysis_is_refused():
    with pytest.raises(DamagedDataError, match="AnalysisOptions"):
        unpack_analysis(pack(AnalysisOptions()))


def cache(folder: Path, **settings: Any) -> ResultCache:
    return ResultCache(OfflineConfig(cache_dir=str(folder), **settings))


def test_content_knows_no_name(tmp_path: Path):
    kept = cache(tmp_path)
    assert kept.get(KEY, "a.wav") is None
    assert kept.put(KEY, dataclasses.replace(analysis(), name="secret.wav"))
    found = kept.get(KEY, "b.wav")
    assert found is not None
    assert found.name == "b.wav"
    (file,) = tmp_path.iterdir()
    assert b"secret" not in file.read_bytes()


def test_a_damaged_entry_is_removed(tmp_path: Path):
    kept = cache(tmp_path)
    kept.put(KEY, analysis())
    path = tmp_path / KEY
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data[:-1])
    assert kept.get(KEY, "a.wav") is None
    assert not path.exists()


def test_an_entry_of_another_version_is_removed(tmp_path: Path):
    kept = cache(tmp_path)
    kept.put(KEY, analysis())
    (tmp_path / KEY).write_bytes(pack(AnalysisOptions()))
    assert kept.get(KEY, "a.wav") is None
    assert not (tmp_path / KEY).exists()


def test_a_cache_of_no_size_is_off(tmp_path: Path):
    kept = cache(tmp_path / "cache", cache_mb=0)
    assert not kept.put(KEY, analysis())
    assert kept.get(KEY, "a.wav") is None
    kept.clear()
    assert not (tmp_path / "cache").exists()


def test_a_result_larger_than_the_cache_is_not_packed(tmp_path: Path):
    kept = cache(tmp_path, cache_mb=1)
    whole = analysis(OPTIONS[2])
    result: Any = whole.channels[0].result
    huge = dataclasses.replace(result, embeddings=np.zeros((3000, 128), np.float32))
    channel = dataclasses.replace(whole.channels[0], result=huge)
    assert not kept.put(KEY, dataclasses.replace(whole, channels=(channel,)))
    assert list(tmp_path.iterdir()) == []


def test_results_are_forgotten_in_time(tmp_path: Path):
    now_s = 1_700_000_000.0
    config = OfflineConfig(cache_dir=str(tmp_path), cache_days=2)
    kept = ResultCache(config, clock=lambda: now_s)
    kept.put(KEY, analysis())
    now_s += 86_400
    assert kept.get(KEY, "a.wav") is not None
    now_s += 2 * 86_400
    assert kept.get(KEY, "a.wav") is None
