from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from tests.support.telephony_lab import (
    Timeline,
    assert_same_timeline,
    load_call,
    native_timeline,
    telephony_lab,
)


@pytest.mark.needs("shared-data")
def test_packets_and_interleaved_samples_are_the_same_audio(shared_data: Path) -> None:
    for encoding, sample_bytes in (("mulaw", 1), ("alaw", 1), ("pcm_s16le", 2)):
        call = load_call(shared_data, encoding)  # type: ignore[arg-type]
        packets = call.packets()
        assert len(packets[0][0]) == len(packets[0][1]) == 160 * sample_bytes
        assert b"".join(first for first, _ in packets) == call.tracks[0]
        first = call.interleaved[: 4 * sample_bytes]
        customer, agent = (track[: 2 * sample_bytes] for track in call.tracks)
        assert first[:sample_bytes] == customer[:sample_bytes]
        assert first[sample_bytes : 2 * sample_bytes] == agent[:sample_bytes]
        assert call.num_samples == pytest.approx(80_000, abs=200)


@pytest.mark.needs("shared-data")
async def test_a_timeline_is_itself_and_differs_where_tracks_are_exchanged(
    shared_data: Path,
) -> None:
    call = load_call(shared_data)
    async with telephony_lab() as lab:
        one = await native_timeline(lab, call)
        other = await native_timeline(lab, replace(call, tracks=call.tracks[::-1]))
        assert_same_timeline(one, await native_timeline(lab, call))
    assert {each.role for each in one.points} == {"customer", "agent"}
    with pytest.raises(AssertionError):
        assert_same_timeline(one, other, tolerance_s=0.1, posterior_tolerance=0.1)


@pytest.mark.needs("shared-data")
async def test_a_shift_within_the_tolerance_is_none_a_greater_one_is_found(
    shared_data: Path,
) -> None:
    call = load_call(shared_data)
    async with telephony_lab() as lab:
        one = await native_timeline(lab, call)
    gaps = tuple(
        msgspec.structs.replace(
            each, start_sample=each.start_sample + 800, start_s=each.start_s + 0.05
        )
        for each in one.gaps
    )
    assert gaps
    moved = Timeline(one.points, one.segments, gaps)
    assert_same_timeline(one, moved, tolerance_s=0.06)
    with pytest.raises(AssertionError):
        assert_same_timeline(one, moved)
    with pytest.raises(AssertionError):
        assert_same_timeline(one, moved, tolerance_s=0.02)
