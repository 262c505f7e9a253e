from __future__ import annotations

import asyncio

import pytest

from mic_client.sources import MAX_SPEED, Pacer, chunk_samples
from tests.support.virtual_time import current_loop, virtual_time


@virtual_time
async def test_positions_are_due_when_they_would_be_heard():
    pacer = Pacer(1.0)
    for position_s in (0.04, 0.08, 3600.0):
        await pacer.wait_for(position_s)
        assert current_loop().time() == pytest.approx(position_s)


@virtual_time
async def test_small_delays_do_not_add_up():
    pacer = Pacer(1.0)
    for number in range(1, 1001):
        await pacer.wait_for(number * 0.04)
        await asyncio.sleep(0.03)
    assert current_loop().time() == pytest.approx(1000 * 0.04 + 0.03)


@virtual_time
async def test_a_long_wait_of_somebody_else_is_not_made_up_for():
    pacer = Pacer(1.0)
    await pacer.wait_for(1.0)
    await asyncio.sleep(60)
    await pacer.wait_for(1.04)
    await pacer.wait_for(2.04)
    assert current_loop().time() == pytest.approx(62.0)


@virtual_time
async def test_n_times_as_fast():
    pacer = Pacer(4.0)
    await pacer.wait_for(0.0)
    await pacer.wait_for(60.0)
    assert current_loop().time() == pytest.approx(15)


@virtual_time
async def test_as_fast_as_it_goes_still_lets_others_run():
    others = asyncio.create_task(asyncio.sleep(0))
    pacer = Pacer(MAX_SPEED)
    await pacer.wait_for(1e9)
    await pacer.wait_for(2e9)
    assert others.done()
    assert current_loop().time() == 0


@pytest.mark.parametrize("speed", [0.0, -1.0, float("nan")])
def test_a_speed_must_be_one(speed: float):
    with pytest.raises(ValueError, match="must be above 0"):
        Pacer(speed)


@pytest.mark.parametrize(
    ("speed", "samples"), [(0.5, 640), (1.0, 640), (5.0, 3200), (MAX_SPEED, 16_000)]
)
def test_chunks_grow_with_the_speed(speed: float, samples: int):
    assert chunk_samples(16_000, speed) == samples
