"""docs/explanation/architecture.md lists the files a chunk passes; here a chunk passes them."""

from __future__ import annotations

import asyncio
import re
import sys
from types import FrameType

from stream_server.wire.results import Flushed, Point, Summary
from tests.requirements import REPOSITORY
from tests.support.live_lab import (
    chunks,
    level,
    live_lab,
    pcm,
    receive,
    receive_until,
    send,
    start,
)
from tests.support.virtual_time import virtual_time

LOOKED_UP = {
    "ser_engine/config.py",
    "ser_engine/errors.py",
    "ser_engine/frames.py",
    "ser_engine/labels.py",
    "ser_engine/schema.py",
    "ser_engine/types.py",
    "stream_server/metrics.py",
    "stream_server/tracing.py",
    "stream_server/wire/dialect.py",
    "stream_server/wire/feed_messages.py",
}
"""Types, settings and counters: the chunk does not pass through them."""

BESIDE = {
    "ser_engine/timeline/course.py",
    "stream_server/alerts/evaluator.py",
    "stream_server/streams/handshakes.py",
}
"""Listens to results on their way, and knows how channels have been; looks for pings."""


def walk() -> tuple[list[str], list[str]]:
    """Return the files of the page's two tables, in order."""
    page = (REPOSITORY / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    inward, _, back = page.partition("### Back:")
    back = back.partition("\n## ")[0]
    rows = r"^\| \d+ \| `([^`]+)` \|"
    return re.findall(rows, inward, re.MULTILINE), re.findall(rows, back, re.MULTILINE)


def test_the_walk_names_files_that_exist_and_few():
    inward, back = walk()
    assert 10 <= len(inward) <= 20
    assert 4 <= len(back) <= 8
    assert len({*inward, *back}) == len(inward) + len(back)
    missing = [path for path in (*inward, *back) if not (REPOSITORY / path).is_file()]
    assert not missing
    paths = r"`((?:ser_engine|stream_server|dashboard|emotion_monitor|mic_client)/[\w/.]+\.\w+)`"
    page = (REPOSITORY / "docs/explanation/architecture.md").read_text(encoding="utf-8")
    assert not [path for path in re.findall(paths, page) if not (REPOSITORY / path).is_file()]


@virtual_time
async def test_a_chunk_passes_the_files_of_the_walk_and_no_others():
    passed: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(f"{REPOSITORY}/"):
            passed.add(path.removeprefix(f"{REPOSITORY}/"))

    async with live_lab() as lab, lab.connect() as socket:
        await socket.send(start())
        await receive(socket)
        for chunk in chunks(pcm(level(2, 0.1))):
            await socket.send(chunk)
        # So that the point below is one of what is sent there, which does not come ahead of time.
        await send(socket, type="flush")
        await receive_until(socket, Flushed)
        await asyncio.sleep(2)
        sys.setprofile(note)
        try:
            for chunk in chunks(pcm(level(1, 0.1))):
                await socket.send(chunk)
            await receive_until(socket, Point)
        finally:
            sys.setprofile(None)
        await send(socket, type="stop")
        await receive_until(socket, Summary)
    ours = {path for path in passed if not path.startswith(("tests/", ".venv/"))}
    named = {path for paths in walk() for path in paths}
    assert ours - LOOKED_UP - BESIDE <= named
    # The laboratory's engine answers by itself, at once, and its results go no further.
    beyond = ("ser_engine/core/", "stream_server/engines/", "dashboard/")
    assert {path for path in named if not path.startswith(beyond)} <= ours
