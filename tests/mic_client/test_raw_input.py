from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mic_client.errors import SourceError
from mic_client.sources import StdinSource
from stream_server.wire.audio_format import AudioFormat

FORMAT = AudioFormat("pcm_s16le", 16_000, 2)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    for descriptor in (read, write):
        try:
            os.close(descriptor)
        except OSError:
            pass


async def test_whole_samples_come_however_they_are_split(pipe: tuple[int, int]):
    read, write = pipe
    source = aiter(StdinSource(FORMAT, descriptor=read))
    os.write(write, b"abcdef")
    assert (await anext(source)).data == b"abcd"
    os.write(write, b"ghi")
    assert (await anext(source)).data == b"efgh"
    os.close(write)
    # Of the last sample only one byte has come: it cannot be heard.
    assert [chunk async for chunk in source] == []


async def test_what_is_encoded_is_passed_on_as_it_comes(pipe: tuple[int, int]):
    read, write = pipe
    source = aiter(StdinSource(AudioFormat.told("webm", None, 2), descriptor=read))
    os.write(write, b"abc")
    assert (await anext(source)).data == b"abc"
    os.close(write)
    assert [chunk async for chunk in source] == []


async def test_opus_comes_in_a_container(pipe: tuple[int, int], tmp_path: Path):
    read, write = pipe
    opus = AudioFormat.told("opus", None, 1)
    os.write(write, b"Og")
    first = asyncio.ensure_future(anext(source := aiter(StdinSource(opus, descriptor=read))))
    await asyncio.sleep(0)
    os.write(write, b"gS" + bytes(10))
    os.close(write)
    assert (await first).data == b"OggS" + bytes(10)
    # Its thread ends here, and reads no other test's pipe of the same number.
    assert [chunk async for chunk in source] == []
    (tmp_path / "packets").write_bytes(b"\xfc\xff\xfe")
    with (tmp_path / "packets").open("rb") as file:
        with pytest.raises(SourceError, match="say 'ogg' or 'webm'"):
            await anext(aiter(StdinSource(opus, descriptor=file.fileno())))


async def test_a_file_is_read_to_its_end(tmp_path: Path):
    path = tmp_path / "call.raw"
    path.write_bytes(bytes(range(256)) * 1000)
    with path.open("rb") as file:
        source = StdinSource(FORMAT, descriptor=file.fileno())
        chunks = [chunk.data async for chunk in source]
    assert b"".join(chunks) == path.read_bytes()
    assert max(map(len, chunks)) == FORMAT.bytes_per_s // 10


async def test_no_more_is_read_than_may_wait(tmp_path: Path):
    path = tmp_path / "call.raw"
    path.write_bytes(bytes(FORMAT.bytes_per_s * 60))
    taken = 0
    with path.open("rb") as file:
        async for chunk in StdinSource(FORMAT, descriptor=file.fileno()):
            taken += len(chunk.data)
            assert os.lseek(file.fileno(), 0, os.SEEK_CUR) - taken <= FORMAT.bytes_per_s
    assert taken == FORMAT.bytes_per_s * 60


async def test_closing_ends_a_read_that_waits(pipe: tuple[int, int]):
    read, _ = pipe
    source = StdinSource(FORMAT, descriptor=read)
    reading = asyncio.ensure_future(anext(aiter(source), None))
    await asyncio.sleep(0)
    await source.aclose()
    assert await reading is None


async def test_a_descriptor_that_cannot_be_read_is_an_error(pipe: tuple[int, int]):
    _, write = pipe
    with pytest.raises(SourceError, match="cannot be read"):
        await anext(aiter(StdinSource(FORMAT, descriptor=write)))
