"""Sessions as the specification has them, line by line.

A line is what the ``client`` sends, ``audio_bytes`` of it, what the ``server`` has to say next,
what it ``asks`` of the stream (with how much), or a ``result`` the stream hands to the dialect.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stream_server.platforms.audiohook.dialect import AudioHookDialect
from stream_server.wire.dialect import AudioData, Inbound, Say
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.messages import Discarded, Resume, ServerMessage, error_message
from stream_server.wire.results import Segment, StreamClosed
from tests.requirements import REPOSITORY
from tests.support.protocol_lab import ready, span

FOLDER = REPOSITORY / "stream_server/platforms/audiohook/transcripts"

RESULTS: dict[str, ServerMessage] = {
    "ready": ready(),
    "segment": Segment(**span(), label="angry", confidence=0.5, final=True),
    "stream_closed": StreamClosed(stream_id="s1", seq=9, reason="stopped", closed_at=2.5),
    "server_full": error_message(ProtocolError(ErrorCode.SERVER_FULL, "there are 2 streams")),
    "shutting_down": error_message(
        ProtocolError(ErrorCode.SHUTTING_DOWN, "the server is being stopped")
    ),
}


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.jsonl")), ids=lambda path: path.stem)
def test_a_session(path: Path):
    dialect = AudioHookDialect(
        roles=("customer", "agent"),
        session_id="30b0e395-84d3-4570-ac13-9a62d8f514c0",
        organization_id="d7934305-0972-4844-938e-9060eef73d05",
    )
    said: list[str | bytes] = []
    asked: list[Inbound] = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        ((kind, value),) = json.loads(line).items()
        where = f"line {number}: {line}"
        if kind == "server":
            assert said, where
            assert json.loads(said.pop(0)) == value, where
        elif kind == "asks":
            assert asked, where
            assert described(asked.pop(0)) == value, where
        else:
            assert (said, asked) == ([], []), f"before {where}"
            if kind == "result":
                said += dialect.send(RESULTS[value])
            else:
                message = bytes(value) if kind == "audio_bytes" else json.dumps(value)
                for inbound in dialect.receive(message):
                    if isinstance(inbound, Say):
                        said += inbound.messages
                    else:
                        asked.append(inbound)
    assert (said, asked) == ([], [])


def described(inbound: Inbound) -> dict[str, Any]:
    amount: int | None = None
    match inbound:
        case AudioData(data=data):
            amount = len(data)
        case Discarded(samples=samples) | Resume(paused_samples=samples):
            amount = samples
    return {type(inbound).__name__: amount}
