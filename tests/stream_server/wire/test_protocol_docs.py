"""``docs/reference/protocol.md`` says what the code does."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import msgspec
import pytest

from stream_server.wire.errors import ERRORS, ProtocolError
from stream_server.wire.messages import ClientMessage, Error, ServerMessage, Start, error_message
from stream_server.wire.native import NativeDialect
from stream_server.wire.start import MAX_SPAN_SAMPLES, check_start, start_from_query
from tests.requirements import REPOSITORY

DOCS = (REPOSITORY / "docs" / "reference" / "protocol.md").read_text(encoding="utf-8")
CLIENT_TYPES = {m.__struct_config__.tag: m for m in ClientMessage.__args__}
SERVER_TYPES = {m.__struct_config__.tag: m for m in ServerMessage.__args__}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", DOCS, re.DOTALL | re.MULTILINE)


LINES = [line for block in blocks("json") for line in block.splitlines()]
TRANSCRIPT = [(line[0], line[2:]) for block in blocks("transcript") for line in block.splitlines()]


def check(text: str) -> str:
    """Hold one JSON line against its type and return its ``type``."""
    said = json.loads(text)
    kind = str(said["type"])
    if kind in SERVER_TYPES:
        message = msgspec.json.decode(text, type=SERVER_TYPES[kind])
        # All the fields, in the order in which they are sent.
        assert json.dumps(said) == json.dumps(msgspec.to_builtins(message))
    else:
        message = msgspec.json.decode(text, type=CLIENT_TYPES[kind])
        assert_contains(json.loads(msgspec.json.encode(message)), said)
        if isinstance(message, Start):
            check_start(message)
    return kind


def assert_contains(whole: Any, part: Any) -> None:
    if isinstance(part, dict):
        for key, value in part.items():
            assert_contains(whole[key], value)
    elif isinstance(part, list):
        for got, expected in zip(whole, part, strict=True):
            assert_contains(got, expected)
    else:
        assert whole == part


@pytest.mark.parametrize("line", LINES)
def test_every_message_is_one_of_the_protocol(line: str):
    check(line)


def test_every_type_is_shown():
    shown = {check(line) for line in LINES}
    shown |= {
        check(text)
        for _, text in TRANSCRIPT
        if text.startswith("{") and json.loads(text)["type"] != "volume"
    }
    assert shown == set(CLIENT_TYPES) | set(SERVER_TYPES)


def test_the_transcript_is_what_the_server_side_says():
    dialect = NativeDialect()
    errors: list[Error] = []
    for direction, text in TRANSCRIPT:
        if not text.startswith("{"):
            assert text.startswith("[")
        elif direction == "→":
            try:
                assert len(dialect.receive(text)) == 1
            except ProtocolError as error:
                errors.append(error_message(error))
        else:
            assert direction == "←"
            message: ServerMessage = msgspec.json.decode(text, type=ServerMessage)
            if isinstance(message, Error):
                assert message == errors.pop(0)
            (said,) = dialect.send(message)
            assert json.loads(said) == json.loads(text)
    assert errors == []
    assert TRANSCRIPT[-1] == ("←", "[close 1000]")


def test_seq_rises_in_the_transcript():
    seqs = [json.loads(text).get("seq") for _, text in TRANSCRIPT if text.startswith("{")]
    present = [seq for seq in seqs if seq is not None]
    assert present == sorted(set(present))


def table_rows(first_header: str) -> list[list[str]]:
    lines = DOCS.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(f"| {first_header} |"))
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def test_the_table_of_errors_is_that_of_the_code():
    expected = [
        [
            f"`{code}`",
            str(kind.close_code or "–"),
            str(kind.http_status),
            "yes" if kind.retry else "no",
            kind.remedy,
        ]
        for code, kind in ERRORS.items()
    ]
    rows = table_rows("code")
    assert [[*row[:4], row[5]] for row in rows] == expected
    assert all(row[4] for row in rows)


def test_the_table_of_start_names_every_field():
    fields = {row[0].strip("`") for row in table_rows("field")}
    assert {field for field in fields if "[" not in field} == set(Start.__struct_fields__)


def test_the_table_of_controls_names_every_control():
    controls = {row[0].strip("`") for row in table_rows("message")}
    assert controls == set(CLIENT_TYPES) - {"start"}


def test_the_table_of_the_query_names_every_parameter():
    names = [row[0].strip("`") for row in table_rows("parameter")]
    with pytest.raises(ProtocolError) as caught:
        start_from_query({"?": ""})
    for name in names:
        assert name.replace("KEY", "NAME") in str(caught.value)


def test_the_python_example_streams_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    class Server(contextlib.nullcontext[Any]):
        """Stands for a connection: notes what is sent, and gives one message."""

        def __init__(self, url: str) -> None:
            super().__init__(self)
            start_from_query(dict(parse_qsl(urlsplit(url).query)))
            self.send = sent.append

        def __iter__(self) -> Iterator[str]:
            return iter(['{"type": "ready"}'])

    sent: list[bytes | str] = []
    monkeypatch.setattr("websockets.sync.client.connect", Server)
    monkeypatch.chdir(tmp_path)
    Path("speech.raw").write_bytes(bytes(8_000))
    (example,) = blocks("python")

    exec(example, {})

    assert [len(chunk) for chunk in sent[:-1]] == [3200, 3200, 1600]
    assert (sent[-1], capsys.readouterr().out) == ('{"type": "stop"}', '{"type": "ready"}\n')


def test_the_limit_of_a_span_is_that_of_the_code():
    assert str(MAX_SPAN_SAMPLES) in DOCS
