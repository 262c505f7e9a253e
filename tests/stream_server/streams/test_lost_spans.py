"""Audio that one channel lost while others have theirs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser_engine.config import VadConfig
from ser_engine.timeline.audio import BRIDGED_SAMPLES
from ser_engine.types import FloatArray
from stream_server.streams.session import Session
from stream_server.wire.audio_format import Encoding
from stream_server.wire.dialect import LostSpan
from stream_server.wire.results import Flushed, Gap, Result
from tests.stream_server.streams.sessions import (
    CONFIG,
    answer,
    babble,
    catch_up,
    check_tiling,
    drive,
    encode,
    gap_spans,
    make_session,
    points,
    tiles,
)
from tests.support.fake_engine import FakeEngine

ROLES = ("customer", "driver")
STEP = CONFIG.timeline.step_samples
FORMATS: list[tuple[Encoding, int]] = [("pcm_s16le", 16_000), ("mulaw", 8000), ("alaw", 11_025)]


def drive_lost(
    session: Session,
    data: bytes,
    lost: Sequence[LostSpan],
    cuts: Iterable[int] = (),
    engine: FakeEngine | None = None,
    flush_at: int | None = None,
) -> list[Result]:
    """Stream ``data`` in messages that end at the ticks ``cuts``, the spans cut along with it."""
    engine = engine or FakeEngine()
    size = session.spec.format.bytes_per_tick
    num_ticks = len(data) // size
    extra = [] if flush_at is None else [flush_at]
    session.opened(at=1.0)
    start = 0
    for end in sorted({*(cut for cut in cuts if 0 < cut < num_ticks), *extra, num_ticks}):
        parts = [
            LostSpan(
                span.channel, max(span.start_tick, start) - start, min(span.end_tick, end) - start
            )
            for span in lost
            if span.start_tick < end and span.end_tick > start
        ]
        session.receive(data[start * size : end * size], parts)
        start = end
        catch_up(session, engine)
        if end == flush_at:
            answer(session, session.flush(), engine)
    answer(session, session.finish(), engine)
    session.close("stopped", at=2.0)
    return session.take_results()


spans = st.lists(
    st.tuples(
        st.integers(0, 1), st.integers(0, 2499), st.integers(1, 400) | st.integers(900, 2000)
    ),
    max_size=6,
)


def slot_from(sample: int) -> int:
    """Return the start of the first slot whose middle is not before ``sample``."""
    return -(-(sample - 160) // 320) * 320


def in_ms(drawn: Iterable[tuple[int, int, int]], rate_hz: int) -> list[LostSpan]:
    """Return spans of channel, start and length in ms as they may be: not overlapping."""
    ends = [0, 0]
    lost = []
    for channel, start_ms, length_ms in sorted(drawn, key=lambda each: each[1]):
        start = max(start_ms * rate_hz // 1000 + 1, ends[channel])
        end = min(start + length_ms * rate_hz // 1000, rate_hz * 5 // 2)
        if start < end:
            lost.append(LostSpan(channel, start, end))
            ends[channel] = end
    return lost


@pytest.mark.parametrize(("encoding", "rate_hz"), FORMATS)
@settings(max_examples=8)
@given(drawn=spans, cuts=st.lists(st.integers(1, 40_000), max_size=12))
def test_any_split_gives_the_same_results(
    encoding: Encoding, rate_hz: int, drawn: list[tuple[int, int, int]], cuts: list[int]
) -> None:
    lost = in_ms(drawn, rate_hz)
    data = encode(babble(rate_hz * 5 // 2, rate_hz=rate_hz, channels=2), encoding)
    whole = drive_lost(make_session(encoding, rate_hz, ROLES), data, lost)
    assert drive_lost(make_session(encoding, rate_hz, ROLES), data, lost, cuts) == whole
    check_tiling(whole, rate_hz * 5 // 2 * 16_000 // rate_hz, (0, 1))
    for channel in (0, 1):
        for span in lost:
            if span.channel == channel:
                start, end = (tick * 16_000 // rate_hz for tick in (span.start_tick, span.end_tick))
                # Up to the nearest slot on either side.
                assert end - start <= 640 or not any(
                    tile.start_sample < end - 320
                    and tile.end_sample > start + 320
                    and not (isinstance(tile, Gap) and tile.reason == "lost")
                    for tile in tiles(whole, channel)
                )


@pytest.mark.parametrize(("encoding", "rate_hz"), FORMATS)
@pytest.mark.parametrize("length_ms", [20, 667, 1200, 1700])
def test_it_is_a_gap_of_that_channel_and_as_long(
    encoding: Encoding, rate_hz: int, length_ms: int
) -> None:
    data = encode(babble(rate_hz * 3, rate_hz=rate_hz, channels=2), encoding)
    # In the middle of what the babble says.
    start = rate_hz * 2 // 3 + 17
    end = start + length_ms * rate_hz // 1000
    lost = [LostSpan(1, start, end)]
    results = drive_lost(make_session(encoding, rate_hz, ROLES), data, lost)
    reasons = {each.reason for each in tiles(results, 0) if isinstance(each, Gap)}
    assert "lost" not in reasons
    first, limit = (slot_from(tick * 16_000 // rate_hz) for tick in (start, end))
    if length_ms * 16 > BRIDGED_SAMPLES:
        limit = end * 16_000 // rate_hz
    assert [gap[:2] for gap in gap_spans(results, 1) if gap[2] == "lost"] == [(first, limit)]
    check_tiling(results, 48_000, (0, 1))
    # The other channel does not notice.
    assert _of(results, 0) == _of(drive(make_session(encoding, rate_hz, ROLES), data), 0)


def test_boundaries_stay_common_to_all_channels() -> None:
    engine = FakeEngine()
    data = encode(np.full((40_000, 2), 0.2, dtype=np.float32), "pcm_s16le")
    lost = [LostSpan(1, 5_123, 5_123 + BRIDGED_SAMPLES + 1_000)]
    config = replace(CONFIG, vad=VadConfig(detector="off"))
    drive_lost(make_session(roles=ROLES, config=config), data, lost, engine=engine)
    ends: dict[str, list[int]] = {"id/0": [], "id/1": []}
    for window in engine.windows:
        assert window.stream_key is not None
        ends[window.stream_key].append(window.start_sample + len(window.samples))
    assert ends["id/0"] and set(ends["id/0"]) >= set(range(2 * STEP, 40_000, STEP))
    # What was said before is scored; after the hole boundaries are the others', as soon as there
    # is a frame.
    assert not [end for end in ends["id/1"] if end % STEP]
    assert max(end for end in ends["id/1"] if end < 22_123) <= 5_123 + 2 * STEP
    assert set(range(24_000, 40_001, STEP)) <= set(ends["id/1"])
    # No window reaches over what is not bridged.
    for window in engine.windows:
        if window.stream_key == "id/1" and window.start_sample + len(window.samples) > 22_123:
            assert window.start_sample >= 22_123


def test_what_the_bytes_hold_there_does_not_matter() -> None:
    audio = babble(24_000, channels=2)
    rubbish = audio.copy()
    rubbish[4_000:9_000, 1] = np.nan
    lost = [LostSpan(1, 4_000, 9_000)]
    one = drive_lost(make_session("pcm_f32le", 16_000, ROLES), encode(audio, "pcm_f32le"), lost)
    other = drive_lost(make_session("pcm_f32le", 16_000, ROLES), encode(rubbish, "pcm_f32le"), lost)
    assert one == other


@pytest.mark.parametrize("rate_hz", [16_000, 8_000])
def test_a_tap_is_given_zeros(rate_hz: int) -> None:
    taken: dict[int, list[FloatArray]] = {0: [], 1: [], 2: []}
    data = encode(np.full((rate_hz, 3), 0.25, dtype=np.float32), "pcm_s16le")
    session = make_session(
        "pcm_s16le",
        rate_hz,
        ("customer", "agent", "driver"),
        tap=lambda index, samples: taken[index].append(samples.copy()),
    )
    lost = [LostSpan(1, rate_hz // 4, rate_hz // 2), LostSpan(2, rate_hz // 2, rate_hz)]
    results = drive_lost(session, data, lost)
    rows = [np.concatenate(taken[index]) for index in range(3)]
    assert [len(row) for row in rows] == [16_000] * 3
    assert not rows[1][4_000:8_000].any() and not rows[2][8_000:].any()
    assert rows[0][500:15_500].min() > 0.2 and rows[1][9_000:15_500].min() > 0.2
    check_tiling(results, 16_000, (0, 2))


def test_a_flush_within_a_lost_span_comes_back_and_splits_nothing() -> None:
    data = encode(babble(32_000, channels=2), "pcm_s16le")
    for flush_at in (9_999, 26_001):
        lost = [LostSpan(0, 8_000, 27_000)]
        results = drive_lost(make_session(roles=ROLES), data, lost, flush_at=flush_at)
        (flushed,) = [each for each in results if isinstance(each, Flushed)]
        assert flushed.at_sample == flush_at
        assert [gap[:2] for gap in gap_spans(results) if gap[2] == "lost"] == [(8_000, 27_000)]
        check_tiling(results, 32_000, (0, 1))


def test_all_channels_lost_is_a_gap_of_each() -> None:
    data = encode(babble(32_000, channels=2), "pcm_s16le")
    lost = [LostSpan(0, 8_000, 27_000), LostSpan(1, 8_000, 27_000)]
    results = drive_lost(make_session(roles=ROLES), data, lost)
    for channel in (0, 1):
        assert (8_000, 27_000, "lost") in gap_spans(results, channel)
    check_tiling(results, 32_000, (0, 1))


def test_a_gap_of_all_channels_after_a_lost_span_follows_it() -> None:
    engine = FakeEngine()
    data = encode(babble(16_000, channels=2), "pcm_s16le")
    session = make_session(roles=ROLES)
    session.opened(at=1.0)
    session.receive(data, [LostSpan(1, 12_345, 16_000)])
    catch_up(session, engine)
    answer(session, session.discard(8_000), engine)
    session.receive(data, [LostSpan(1, 0, 1_000)])
    catch_up(session, engine)
    answer(session, session.finish(), engine)
    session.close("stopped", at=2.0)
    results = session.take_results()
    check_tiling(results, 40_000, (0, 1))
    assert [gap for gap in gap_spans(results, 1) if gap[2] in ("lost", "discarded")] == [
        (12_480, 16_000, "lost"),
        (16_000, 24_000, "discarded"),
        (24_000, 24_960, "lost"),
    ]
    assert points(results, 1)


def _of(results: Iterable[Result], channel: int) -> list[tuple[object, ...]]:
    """Return what is told of a channel, without its place in the order of all."""
    return [
        tuple(getattr(each, name) for name in each.__struct_fields__ if name != "seq")
        for each in results
        if getattr(each, "channel", None) == channel
    ]
