from __future__ import annotations

from typing import Any

import msgspec

from stream_server.platforms.audiohook.dialect import EventWriter
from stream_server.wire.results import Alert, Gap, Point, Segment, StreamClosed
from tests.support.protocol_lab import results

RATE = 16_000
KIND = {type(result): result for result in results()}


def a(kind: Any, *, channel: int = 0, end_s: float = 0.5, **changes: Any) -> Any:
    end_sample = round(end_s * RATE)
    span = {"channel": channel, "start_sample": end_sample - 8000, "end_sample": end_sample}
    return msgspec.structs.replace(KIND[kind], **(span | changes))


def writer(origin_ns: int = 0, interval_ms: int = 1000) -> EventWriter:
    return EventWriter(["external", "internal"], ["angry", "happy"], origin_ns, interval_ms)


def ends(entities: Any) -> list[tuple[str, str]]:
    return [(e["data"]["channel"], e["data"]["end"]) for e in entities]


def test_a_point():
    (entity,) = writer(interval_ms=500).add(a(Point, channel=1))
    assert entity == {
        "type": "emotion.point",
        "data": {
            "channel": "internal",
            "start": "PT0S",
            "end": "PT0.5S",
            "label": "angry",
            "best": "angry",
            "confidence": 0.75,
            "posteriors": {"angry": 0.75, "happy": 0.25},
        },
    }


def test_an_alert_goes_at_once():
    one = writer(origin_ns=10**9)
    assert one.add(a(Segment)) == []
    segment, alert = one.add(KIND[Alert])
    assert segment["type"] == "emotion.segment"
    assert alert == {
        "type": "emotion.alert",
        "data": {
            "id": "a1",
            "rule": "angry_customer",
            "state": "raised",
            "severity": "critical",
            "channel": "external",
            "labels": ("angry",),
            "posterior": 0.9,
            "since": "PT1S",
            "at": "PT2S",
        },
    }


def test_points_go_once_a_second_of_the_audio():
    one = writer()
    told = [
        ends(one.add(a(Point, channel=channel, end_s=step / 2)))
        for step in range(1, 9)
        for channel in (0, 1)
    ]
    messages = [message for message in told if message]
    assert len(messages) == 4
    assert all(len(message) == 2 for message in messages)
    assert ("external", "PT4S") in messages[-1]
    assert ends(one.flush()) == [("internal", "PT4S")]


def test_silence_moves_the_clock_on():
    one = writer()
    assert one.add(a(Segment, end_s=0.5)) == []
    assert ends(one.add(a(Gap, end_s=1.5))) == [("external", "PT0.5S")]


def test_only_what_is_final_is_told_of_segments():
    one = writer()
    assert one.add(a(Segment, end_s=9, final=False)) == []


def test_the_end_lets_go_of_what_is_held():
    one = writer()
    one.add(a(Point))
    assert ends(one.add(KIND[StreamClosed])) == [("external", "PT0.5S")]
    assert one.add(KIND[StreamClosed]) == []


def test_a_message_has_so_many_entities_at_most():
    one = writer(interval_ms=60_000)
    sizes = [len(one.add(a(Segment, end_s=1))) for _ in range(200)]
    assert [size for size in sizes if size] == [64, 64, 64]
