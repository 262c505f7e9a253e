"""What the page of AudioHook shows is what happens."""

from __future__ import annotations

import json
import re

from ser_engine.schema import LabelName
from stream_server.platforms.audiohook.dialect import (
    ALERT_TYPE,
    POINT_TYPE,
    SEGMENT_TYPE,
    AudioHookDialect,
)
from stream_server.wire.dialect import Say
from stream_server.wire.messages import ServerMessage
from stream_server.wire.results import Alert, StreamClosed
from tests.requirements import REPOSITORY
from tests.support.protocol_lab import point, ready, results

PAGE = (REPOSITORY / "stream_server/platforms/audiohook/README.md").read_text(encoding="utf-8")


def test_the_session_is_one():
    (session,) = re.findall(r"```\n(→.*?)```", PAGE, re.DOTALL)
    dialect = AudioHookDialect(roles=("customer", "agent"))
    labels = tuple(LabelName(name=name, name_zh="") for name in ("angry", "happy"))
    closed = StreamClosed(stream_id="s1", seq=9, reason="stopped", closed_at=2.5)
    coming: list[ServerMessage] = [ready(labels=labels), point(), closed]
    said: list[str | bytes] = []
    for line in session.splitlines():
        arrow, _, text = line.partition(" ")
        if arrow == "←":
            while not said:
                said += dialect.send(coming.pop(0))
            assert json.loads(said.pop(0)) == json.loads(text)
        else:
            audio = re.match(r"(\d+) bytes", text)
            message = bytes(int(audio[1])) if audio else text
            asked = dialect.receive(message)
            said += [each for say in asked if isinstance(say, Say) for each in say.messages]
    assert (said, coming) == ([], [])


def test_the_entities_are_those():
    dialect = AudioHookDialect(roles=("customer", "agent"), event_interval_ms=200)
    open_line = next(line for line in PAGE.splitlines() if line.startswith('→ {"version"'))
    dialect.receive(open_line[2:])
    dialect.send(ready())
    shown = {
        kind: set(re.findall(r"`(\w+)`", data))
        for kind, data in re.findall(r"^\| `(emotion\.\w+)` \| (.*) \|$", PAGE, re.MULTILINE)
    }
    (alert,) = (result for result in results() if isinstance(result, Alert))
    sent = [text for result in (*results()[:3], alert) for text in dialect.send(result)]
    entities = [each for text in sent for each in json.loads(text)["parameters"]["entities"]]
    assert {each["type"]: set(each["data"]) for each in entities} == shown
    assert set(shown) == {POINT_TYPE, SEGMENT_TYPE, ALERT_TYPE}
