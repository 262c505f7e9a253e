"""Making and driving sessions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping

import numpy as np

from ser_engine.config import EngineConfig, SmoothingConfig, TimelineConfig, VadConfig
from ser_engine.types import FloatArray
from stream_server.streams.session import (
    NOBODY_APART,
    MeasuredChannels,
    Session,
    Tap,
)
from stream_server.streams.session_results import ChannelWindow
from stream_server.wire.audio_format import AudioFormat, Encoding
from stream_server.wire.messages import ChannelSpec, Want
from stream_server.wire.results import Gap, Point, Result, Segment, Summary
from stream_server.wire.start import SpeakersAsked, StreamSpec
from tests.support.fake_engine import FakeEngine

ROLES = ("speaker", "customer", "driver")
CONFIG = EngineConfig(
    timeline=TimelineConfig(window_ms=500, step_ms=100, look_ahead_ms=40, provisional_below_ms=300),
    smoothing=SmoothingConfig(span_ms=200, min_dwell_ms=60),
    # It takes babble() for speech.
    vad=VadConfig(detector="webrtc", hangover_ms=40),
)


def make_session(
    encoding: Encoding = "pcm_s16le",
    rate_hz: int = 16_000,
    roles: Collection[str] = ("speaker",),
    *,
    config: EngineConfig = CONFIG,
    wants: Collection[Want] = ("points", "segments"),
    tap: Tap | None = None,
    engine: FakeEngine | None = None,
    measures: MeasuredChannels = "all",
    speakers: Mapping[int, SpeakersAsked] = NOBODY_APART,
) -> Session:
    spec = StreamSpec(
        AudioFormat(encoding, rate_hz, len(roles)),
        tuple(ChannelSpec(role=role) for role in roles),
        name="a stream",
        metadata={"key": "value"},
        wants=frozenset(wants),
    )
    return Session(
        stream_id="id",
        spec=spec,
        model=(engine or FakeEngine()).info,
        engine_config=config,
        analyse_roles=ROLES,
        measures=measures,
        tap=tap,
        speakers=speakers,
    )


def answer(session: Session, windows: Iterable[ChannelWindow], engine: FakeEngine) -> None:
    for channel, window in windows:
        session.answer(channel, window, engine.run(window))


def catch_up(session: Session, engine: FakeEngine) -> None:
    """Advance through the backlog; answer every window at once."""
    while session.has_backlog:
        answer(session, session.advance(), engine)


def drive(
    session: Session,
    data: bytes,
    sizes: Iterable[int] = (),
    engine: FakeEngine | None = None,
    at_bytes: dict[int, Callable[[], Iterable[ChannelWindow] | None]] | None = None,
) -> list[Result]:
    """Stream ``data`` in messages of ``sizes``, then the rest; finish and close.

    Args:
        session: a new one.
        data: all audio.
        sizes: of the messages, in bytes.
        engine: answers at once.
        at_bytes: what to do after so many bytes; they are a message's end as well.
    """
    engine, at_bytes = engine or FakeEngine(), at_bytes or {}
    ends = sorted({*np.cumsum([*sizes], dtype=int).tolist(), *at_bytes, len(data)})
    session.opened(at=1.0)
    start = 0
    for end in ends:
        session.receive(data[start:end])
        start = end
        catch_up(session, engine)
        if end in at_bytes:
            answer(session, at_bytes[end]() or (), engine)
    answer(session, session.finish(), engine)
    session.close("stopped", at=2.0)
    return session.take_results()


def babble(num_samples: int, *, rate_hz: int = 16_000, channels: int = 1) -> FloatArray:
    """Bursts that the detector takes for speech, at changing levels, and silence between.

    Returns:
        float32 ``(samples, channels)``.
    """
    time = np.arange(num_samples) / rate_hz
    columns = []
    for channel in range(channels):
        pitch = 120 + 60 * channel + 20 * np.sin(2 * np.pi * 3 * time)
        phase = np.cumsum(pitch) / rate_hz
        voice = sum(np.sin(2 * np.pi * k * phase) / k for k in range(1, 12))
        level = 0.1 + 0.1 * (time * 1.3 % 3 // 1)
        heard = (time + 0.13 * channel) % 0.9 < 0.6
        columns.append(voice * level * heard / 2)
    return np.stack(columns, axis=1).astype(np.float32)


def encode(audio: FloatArray, encoding: Encoding) -> bytes:
    """Return ``(samples, channels)`` as interleaved bytes; G.711 by the nearest code."""
    if encoding == "pcm_f32le":
        return audio.astype("<f4").tobytes()
    if encoding == "pcm_s16le":
        return np.rint(np.clip(audio, -1, 1) * 32_767).astype("<i2").tobytes()
    from ser_engine.raw_audio import ALAW, MULAW

    table = MULAW if encoding == "mulaw" else ALAW
    order = np.argsort(table, kind="stable")
    edges = (table[order][1:] + table[order][:-1]) / 2
    return order[np.searchsorted(edges, audio.ravel())].astype(np.uint8).tobytes()


def points(results: Iterable[Result], channel: int = 0) -> list[Point]:
    return [each for each in results if isinstance(each, Point) and each.channel == channel]


def tiles(results: Iterable[Result], channel: int = 0) -> list[Segment | Gap]:
    return [
        each
        for each in results
        if isinstance(each, Segment | Gap) and each.final and each.channel == channel
    ]


def summary(results: Iterable[Result]) -> Summary:
    (found,) = [each for each in results if isinstance(each, Summary)]
    return found


def gap_spans(results: Iterable[Result], channel: int = 0) -> list[tuple[int, int, str]]:
    return [
        (each.start_sample, each.end_sample, each.reason)
        for each in tiles(results, channel)
        if isinstance(each, Gap)
    ]


def check_tiling(results: list[Result], num_samples: int, channels: Iterable[int] = (0,)) -> None:
    """Final segments and gaps tile every channel, seq has no holes, and the summary adds up."""
    assert [each.seq for each in results] == list(range(len(results)))
    for channel in channels:
        at = 0
        for each in tiles(results, channel):
            assert each.start_sample == at
            assert each.end_sample > at
            at = each.end_sample
        assert at == num_samples
        (told,) = [each for each in summary(results).channels if each.channel == channel]
        total = told.scored_s + sum(told.gap_s.values())
        assert abs(total - num_samples / 16_000) < 1e-9
        assert abs(sum(told.label_s.values()) - told.scored_s) < 1e-9
        assert told.points == len(points(results, channel))
