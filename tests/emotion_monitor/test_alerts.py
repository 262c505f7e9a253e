"""``emotion-monitor alerts replay`` over each kind of timeline."""

from __future__ import annotations

import asyncio
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import msgspec
import pytest

from emotion_monitor import main
from ser_engine.schema import ChannelResult, FileModel, FileResult, Gap, LabelName
from stream_server.bus import Bus
from stream_server.config import StoreConfig
from stream_server.store import Store
from stream_server.wire.results import Result
from tests.support.results import (
    LABELS,
    make_closed,
    make_opened,
    make_points,
    make_summary,
    without_envelope,
)

Captured = pytest.CaptureFixture[str]

RULES = """
rules:
  - name: customer stays angry
    labels: [angry]
    roles: [customer]
    threshold: 0.6
    hold_s: 2.0
    cooldown_s: 0.0
    severity: critical
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["alerts", "replay", *map(str, arguments)])
    return int(caught.value.code or 0)


def results(stream_id: str = "s1") -> list[Result]:
    values = [0.1, *[0.8] * 6, 0.1]
    points = list(make_points(values, stream_id=stream_id))
    return [
        make_opened(stream_id),
        *points,
        make_summary(stream_id, seq=9),
        make_closed(stream_id, seq=10),
    ]


def analysis(name: str = "a.wav", *, channels: int = 1, **changes: Any) -> FileResult:
    """Return a document as ``analyze -g stream --json`` prints it."""
    points = tuple(without_envelope(point) for point in make_points([0.1, *[0.8] * 6, 0.1]))
    gap = Gap(start_sample=64_000, end_sample=96_000, reason="silence", final=True)
    document = FileResult(
        name=name,
        granularity="stream",
        model=FileModel(name="fake", licence="none"),
        labels=tuple(LabelName(name=label, name_zh=label) for label in LABELS),
        duration_s=6.0,
        sample_rate=16_000,
        frame_hop_ms=20,
        has_embedding=True,
        channels=tuple(
            ChannelResult(channel=index, overall=None, points=points, gaps=(gap,))
            for index in range(channels)
        ),
    )
    return msgspec.structs.replace(document, **changes)


def write(path: Path, *messages: Any) -> Path:
    path.write_bytes(b"\n".join(map(msgspec.json.encode, messages)))
    return path


def test_a_recording(rules: Path, tmp_path: Path, capsys: Captured):
    assert run(rules, write(tmp_path / "call.json", analysis()), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {
        "duration_s": 6.0,
        "rules": [
            {
                "rule": "customer stays angry",
                "severity": "critical",
                "raised": 1,
                "per_hour": 600.0,
                "alert_s": 1.5,
                "alerts": [
                    {
                        "timeline": "call.json: a.wav, channel 0",
                        "channel": 0,
                        "role": "",
                        "since_s": 0.5,
                        "raised_s": 2.5,
                        "cleared_s": 4.0,
                        "posterior": 0.8,
                    }
                ],
            }
        ],
    }


def test_the_role_of_a_recording(rules: Path, tmp_path: Path, capsys: Captured):
    path = write(tmp_path / "call.json", analysis())
    for role, raised in (("customer", 1), ("agent", 0)):
        assert run(rules, path, "--role", role, "--json") == 0
        assert json.loads(capsys.readouterr().out)["rules"][0]["raised"] == raised


def test_channels_of_several_recordings(rules: Path, tmp_path: Path, capsys: Captured):
    entries = [analysis("a.wav", channels=2), analysis("b.wav")]
    assert run(rules, write(tmp_path / "calls.json", entries), "--json") == 0
    alerts = json.loads(capsys.readouterr().out)["rules"][0]["alerts"]
    names = [alert["timeline"] for alert in alerts]
    assert names == [
        f"calls.json: {each}"
        for each in ("a.wav, channel 0", "a.wav, channel 1", "b.wav, channel 0")
    ]


def test_results_line_by_line(rules: Path, tmp_path: Path, capsys: Captured):
    lines = write(tmp_path / "results.jsonl", *results("s1"), *results("s2"))
    assert run(rules, lines, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["rules"][0]["raised"] == 2
    assert document["duration_s"] == 8.0


def test_what_a_client_prints(rules: Path, tmp_path: Path, capsys: Captured):
    labels = [{"name": name, "name_zh": name} for name in LABELS]
    ready, heartbeat = {"type": "ready", "labels": labels}, {"type": "heartbeat", "lag_ms": 1.0}
    points = list(make_points([0.8] * 6))
    path = write(tmp_path / "client.jsonl", ready, points[0], heartbeat, *points[1:])
    assert run(rules, path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rules"][0]["raised"] == 1


@pytest.mark.parametrize("named", [True, False])
def test_stored_streams(named: bool, rules: Path, tmp_path: Path, capsys: Captured):
    url = f"sqlite:///{tmp_path / 'timelines.db'}"

    async def fill() -> None:
        store = await Store.open(StoreConfig(url=url))
        bus = Bus()
        writing = asyncio.create_task(store.run(bus.subscribe(name="store", capacity=1000)))
        for result in (*results("s1"), *results("s2")):
            bus.publish(result)
        bus.close()
        await writing
        await store.close()

    asyncio.run(fill())
    names = ["s2"] if named else []
    with pytest.raises(SystemExit) as caught:
        setting = f"stream_server.store.url={url}"
        main(["--set", setting, "alerts", "replay", str(rules), *names, "--store", "--json"])
    assert not caught.value.code
    assert json.loads(capsys.readouterr().out)["rules"][0]["raised"] == (1 if named else 2)


def test_for_people(rules: Path, tmp_path: Path, capsys: Captured):
    assert run(rules, write(tmp_path / "call.json", analysis())) == 0
    printed = capsys.readouterr().out
    for shown in ("customer stays angry", "critical", "600.0", "0:02.5", "0:06.0 of streams"):
        assert shown in printed


@pytest.mark.parametrize(
    "text",
    [
        "alerts:\n" + RULES.replace("\n", "\n  "),
        "stream_server:\n  alerts:" + RULES.replace("\n", "\n    "),
    ],
)
def test_rules_in_a_larger_file(text: str, tmp_path: Path, capsys: Captured):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert run(path, write(tmp_path / "call.json", analysis()), "--json") == 0
    assert json.loads(capsys.readouterr().out)["rules"][0]["rule"] == "customer stays angry"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rules: []\nother: 1", "expected 'rules:'"),
        ("", "got nothing"),
        ("rules:\n  - name: a\n    labels: [angry]\n    holds: 1", "rules.0.holds"),
        ("rules:\n  - name: a\n    labels: [angry]\n    hold_s: -1", "got -1, expected 0 to 3600"),
        ("rules:\n  - name: a\n    labels: [bored]", "bored in 'a'"),
    ],
)
def test_wrong_rules_are_one_line(text: str, told: str, tmp_path: Path, capsys: Captured):
    path = tmp_path / "rules.yaml"
    path.write_text(text)
    assert run(path, write(tmp_path / "call.json", analysis())) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (msgspec.json.encode(analysis(granularity="utterance")), "granularity 'utterance'"),
        # As versions before 2 had it.
        (msgspec.json.encode({"granularity": "stream", "points": []}), "missing required field"),
        (b'{"type": "point"}', "line 1"),
        (b"hello", "line 1"),
        (b"", "without a result"),
        (b"\xff\xfe", "UTF-8"),
        (msgspec.json.encode(next(iter(make_points([0.1])))), "'ready' or 'stream_opened'"),
    ],
)
def test_wrong_timelines_are_one_line(
    content: bytes, told: str, rules: Path, tmp_path: Path, capsys: Captured
):
    path = tmp_path / "timeline.json"
    path.write_bytes(content)
    assert run(rules, path) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_missing_things_are_one_line(rules: Path, tmp_path: Path, capsys: Captured):
    assert run(rules, tmp_path / "nothing.json") == 1
    assert "cannot read the timeline" in capsys.readouterr().err
    assert run(rules) == 2


# -- alerts test -----------------------------------------------------------------------------------


class Receiver(BaseHTTPRequestHandler):
    """A webhook that takes what has no 'refused' in its path."""

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        assert json.loads(self.rfile.read(length))["rule"] == "customer stays angry (test)"
        self.send_response(404 if "refused" in self.path else 204)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("path", "code", "told"), [("taken", 0, "took it (status 204)"), ("refused", 1, "(status 404)")]
)
def test_those_whom_a_rule_tells_can_be_tried(
    path: str, code: int, told: str, tmp_path: Path, capsys: Captured
):
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server:
        Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}/{path}"
        rule = f"{{name: customer stays angry, labels: [angry], webhook: '{url}'}}"
        config = tmp_path / "config.yaml"
        config.write_text(f"stream_server: {{alerts: {{rules: [{rule}]}}}}")
        with pytest.raises(SystemExit) as caught:
            main(["--config", str(config), "alerts", "test", "customer stays angry"])
        server.shutdown()
    assert caught.value.code == code
    printed = capsys.readouterr().out
    assert told in printed and path not in printed


@pytest.mark.parametrize(
    ("name", "said"), [("nobody", "expected one of"), ("driver is upset", "has neither")]
)
def test_a_rule_that_cannot_be_tried_is_an_error(name: str, said: str, capsys: Captured):
    with pytest.raises(SystemExit) as caught:
        main(["alerts", "test", name])
    assert caught.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())
