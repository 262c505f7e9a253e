from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.timeline.audio import RingBuffer


@given(
    capacity=st.integers(1, 50),
    sizes=st.lists(st.integers(0, 120), max_size=30),
    # Of the first half and the rest: 16-bit audio, and other audio that may follow it.
    units=st.tuples(*[st.sampled_from([1 / 32_768, 1 / 50_000, 1.0])] * 2),
)
def test_holds_the_newest_samples(
    capacity: int, sizes: list[int], units: tuple[float, float]
) -> None:
    ring, heard = RingBuffer(capacity), np.empty(0, np.float32)
    for number, size in enumerate(sizes):
        unit = units[2 * number // len(sizes)]
        chunk = (unit * np.arange(len(heard), len(heard) + size)).astype(np.float32)
        # Told or found out.
        ring.append(chunk, of_16_bits=number % 2 == 1 and unit == 1 / 32_768)
        heard = np.concatenate([heard, chunk])
        assert len(ring) == min(capacity, len(heard))
        for count in {0, 1, len(ring) // 2, len(ring)} & set(range(len(ring) + 1)):
            np.testing.assert_array_equal(ring.newest(count), heard[len(heard) - count :])


def test_keeps_16_bits_in_16_bits_and_every_other_value_as_it_is() -> None:
    extremes = np.array([-1.0, 32_767 / 32_768, 1 / 32_768, 0.0], np.float32)
    others = np.array([1.0, -1.5, 1e6, 0.5 / 32_768, 1e-30], np.float32)
    ring = RingBuffer(20)
    ring.append(extremes)
    np.testing.assert_array_equal(ring.newest(4), extremes)
    assert ring._store.nbytes == 2 * 20
    for other in others:
        ring.append(other[None])
    np.testing.assert_array_equal(ring.newest(9), [*extremes, *others])
    assert ring._store.nbytes == 4 * 20


def test_what_is_handed_out_does_not_change() -> None:
    ring = RingBuffer(4)
    ring.append(np.arange(4, dtype=np.float32))
    kept = ring.newest(4)
    ring.append(np.full(100, 9, dtype=np.float32))
    np.testing.assert_array_equal(kept, [0, 1, 2, 3])


@pytest.mark.parametrize("count", [-1, 3])
def test_more_than_there_is_is_refused(count: int) -> None:
    ring = RingBuffer(4)
    ring.append(np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="0 to 2 are held"):
        ring.newest(count)


def test_clear_forgets() -> None:
    ring = RingBuffer(4)
    ring.append(np.zeros(9, np.float32))
    ring.clear()
    assert len(ring) == 0
