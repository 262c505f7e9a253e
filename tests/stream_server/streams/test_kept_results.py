from __future__ import annotations

import asyncio

from stream_server.streams.runner import KeptResults
from stream_server.wire.results import Marked
from tests.support.virtual_time import virtual_time


def result(seq: int) -> Marked:
    return Marked(stream_id="s", seq=seq, name=f"mark {seq}", at_sample=seq, at_s=seq / 16_000)


def filled(count: int, capacity: int = 100) -> KeptResults:
    log = KeptResults(capacity)
    for seq in range(count):
        log.append(result(seq))
    return log


async def seqs(log: KeptResults, from_seq: int) -> tuple[list[int], int]:
    unread = await log.read(from_seq)
    return [each.seq for each in unread.results], unread.num_dropped


@virtual_time
async def test_a_reader_gets_what_it_has_not_read():
    log = filled(5)
    assert await seqs(log, 0) == ([0, 1, 2, 3, 4], 0)
    assert await seqs(log, 3) == ([3, 4], 0)


@virtual_time
async def test_a_slow_reader_is_told_how_much_was_dropped():
    log = filled(10, capacity=4)
    assert await seqs(log, 0) == ([6, 7, 8, 9], 6)
    assert await seqs(log, 5) == ([6, 7, 8, 9], 1)
    assert await seqs(log, 6) == ([6, 7, 8, 9], 0)


@virtual_time
async def test_every_waiting_reader_gets_the_next_result():
    log = filled(2)
    readers = [asyncio.create_task(seqs(log, 2)) for _ in range(3)]
    await asyncio.sleep(1)
    assert not any(reader.done() for reader in readers)
    log.append(result(2))
    assert await asyncio.gather(*readers) == [([2], 0)] * 3


@virtual_time
async def test_the_end_wakes_readers_and_lasts():
    log = filled(2)
    reader = asyncio.create_task(seqs(log, 2))
    await asyncio.sleep(1)
    log.close()
    assert await reader == ([], 0)
    assert await seqs(log, 0) == ([0, 1], 0)
    assert await seqs(log, 2) == ([], 0)
