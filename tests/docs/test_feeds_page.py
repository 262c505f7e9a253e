"""What docs/how-to/feeds.md shows is what happens."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys

from stream_server.feeds import MAX_AFTER, PARAMETERS, endpoint
from stream_server.wire.errors import ERRORS, ErrorCode
from stream_server.wire.feed_messages import RESULT_TYPES
from tests.requirements import REPOSITORY
from tests.support.feeds import serve_feed
from tests.support.results import make_opened, make_point

TEXT = (REPOSITORY / "docs" / "how-to" / "feeds.md").read_text(encoding="utf-8")
PAGE = " ".join(TEXT.split())


async def test_the_python_program_runs_as_shown():
    found = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert found
    async with serve_feed() as server:
        server.publish(make_opened(roles=("driver",)))
        server.publish(make_point(seq=1, angry=0.9, role="driver"))
        program = found.group(1).replace("ws://localhost:7860/feed", server.url())
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-uc", program, stdout=subprocess.PIPE, cwd=REPOSITORY
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"s1 0.5 angry 90%\n"
        process.kill()
        await process.wait()


def test_the_tables_are_complete():
    for name in (*RESULT_TYPES, *PARAMETERS):
        assert f"`{name}" in PAGE, name
    for code in ("bad_query", "unauthorized", "forbidden_origin", "unknown_stream"):
        assert f"| {ERRORS[ErrorCode(code)].http_status} | `{code}` |" in PAGE


def test_the_figures_are_those_of_the_code():
    assert f"After {endpoint.KEEPALIVE_S:g} seconds" in PAGE
    assert f"reads nothing for {endpoint.SEND_TIMEOUT_S:g} seconds" in PAGE
    assert f"up to {MAX_AFTER} times" in PAGE
