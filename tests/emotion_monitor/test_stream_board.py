from __future__ import annotations

from typing import Any

from rich.console import Console

from emotion_monitor.commands.stream_view import (
    ChannelBoard,
    Span,
    StreamBoard,
    level_bar,
    strip,
    view,
)
from mic_client.stream_client import ConnectionLost
from ser_engine.schema import ChannelSummary, GapReason, ModelNotice
from stream_server.wire.messages import Error, Heartbeat, Limits, Ready
from stream_server.wire.results import Alert, Gap, Point, Segment, StreamChannel, Summary, Warning


def ready(**changes: Any) -> Ready:
    fields: dict[str, Any] = {
        "version": 1,
        "stream_id": "abc",
        "resume_token": "t",
        "resumed": False,
        "received_samples": 0,
        "model": ModelNotice(name="compact", licence="CC", notice="Weak."),
        "labels": (),
        "channels": (
            StreamChannel(index=0, role="agent", name="", analysed=False),
            StreamChannel(index=1, role="customer", name="B", analysed=True),
        ),
        "window_ms": 4000,
        "step_ms": 500,
        "look_ahead_ms": 240,
        "frame_hop_ms": 20,
        "limits": Limits(
            max_message_bytes=1,
            max_messages_per_s=1,
            idle_timeout_s=1,
            max_stream_s=1,
            resume_window_s=1,
        ),
    }
    return Ready(**{**fields, **changes})


def span(start_s: float, end_s: float) -> dict[str, Any]:
    return {
        "stream_id": "abc",
        "seq": 0,
        "channel": 1,
        "role": "customer",
        "start_sample": round(start_s * 16_000),
        "end_sample": round(end_s * 16_000),
        "start_s": start_s,
        "end_s": end_s,
    }


def segment(start_s: float, end_s: float, label: str, confidence: float = 0.8) -> Segment:
    return Segment(**span(start_s, end_s), label=label, confidence=confidence, final=False)


def gap(start_s: float, end_s: float, reason: GapReason) -> Gap:
    return Gap(**span(start_s, end_s), reason=reason, final=True)


def point(end_s: float, label: str, confidence: float) -> Point:
    return Point(
        **span(end_s - 0.5, end_s),
        posteriors=(),
        label=label,
        confidence=confidence,
        speech_share=1,
        provisional=False,
        widened=False,
        narrow_band=False,
        model="compact",
    )


def alert(state: Any) -> Alert:
    return Alert(
        stream_id="abc",
        seq=0,
        alert_id="a1",
        rule="customer stays angry",
        state=state,
        severity="critical",
        channel=1,
        role="customer",
        labels=("angry",),
        posterior=0.9,
        since_sample=1_000_000,  # 62.5 s
        at_sample=1_120_000,
    )


def make_board(*events: Any) -> StreamBoard:
    board = StreamBoard([ChannelBoard("agent"), ChannelBoard("customer")])
    for event in (ready(), *events):
        board.take(event, 0.0)
    return board


def shown(board: StreamBoard) -> str:
    console = Console(width=130, color_system=None)
    with console.capture() as capture:
        console.print(view(board))
    return capture.get()


def test_an_interim_span_is_replaced():
    board = make_board(
        segment(1, 2, "happy"),
        segment(1, 3, "happy"),
        gap(3, 3.5, "silence"),
        segment(3.2, 4, "sad"),
    )
    spans = [(each.start_s, each.end_s) for each in board.channels[1].spans]
    assert spans == [(1, 3), (3, 3.5), (3.2, 4)]
    board.take(gap(3, 5, "paused"), 0.0)
    assert [each.reason for each in board.channels[1].spans] == ["", "paused"]
    assert board.end_s == 5


def test_old_spans_are_forgotten():
    board = make_board(*(segment(start, start + 1, "happy") for start in range(1000)))
    assert len(board.channels[1].spans) <= 122


def test_now_is_the_last_span_with_the_last_confidence():
    board = make_board(segment(1, 2, "happy", 0.5), point(2, "happy", 0.9))
    assert board.channels[1].now == Span(1, 2, label="happy", confidence=0.9)
    board.take(gap(2, 3, "silence"), 0.0)
    assert board.channels[1].now == Span(2, 3, reason="silence")
    assert board.channels[0].now is None


def test_a_new_stream_goes_on_after_the_old_one():
    board = make_board(segment(1, 2, "happy"), alert("raised"))
    board.take(ready(), 10.0)
    board.take(segment(0.5, 1, "sad"), 10.0)
    assert [each.start_s for each in board.channels[1].spans] == [1, 10.5]
    assert board.end_s == 11
    assert not board.alerts


def test_the_picture_of_a_stream():
    board = make_board(
        segment(50, 55, "angry"),
        gap(55, 57, "discarded"),
        segment(57, 60, "angry", 0.3),
        point(60, "angry", 0.87),
        alert("raised"),
        Warning(stream_id="abc", seq=1, code="clipping", channel=1, message="3 % clip", at_s=1),
        Error(code="bad_message", message="got this", remedy="Do that."),
        Heartbeat(
            stream_id="abc",
            received_samples=1,
            received_s=61,
            published_s=60,
            lag_ms=840,
            real_time_factor=0.2,
            effective_step_ms=2000,
        ),
    )
    board.hear([-100.0, -20.0])
    text = shown(board)
    for part in (
        "● live  stream abc  model compact",
        "Weak.",
        "agent",
        "not analysed",
        "customer B",
        "angry       87%",
        "█████╌╌▒▒▒",
        "gaps: ╌ discarded",
        "▲ customer stays angry: customer, angry 90% since 1:02.50",
        "! 3 % clip",
        "! got this. Do that.",
        "lag 0.8 s",
        "a step of 2.0 s",
    ):
        assert part in text, part
    board.take(alert("cleared"), 0.0)
    assert "▲" not in shown(board)


def test_the_picture_while_the_connection_is_down():
    board = StreamBoard([ChannelBoard("agent"), ChannelBoard("customer")])
    assert "connecting" in shown(board)
    board.take(ConnectionLost(reason="it was lost", attempt=3, retry_in_s=2.25), 0.0)
    assert "it was lost; trying again in 2.2 s (try 3)" in shown(board)
    board.take(ready(resumed=True), 0.0)
    assert "live" in shown(board)


def test_the_picture_after_the_end():
    channel = ChannelSummary(
        channel=1,
        role="customer",
        scored_s=20,
        label_s={"sad": 4, "angry": 16},
        gap_s={"silence": 3},
        points=40,
    )
    board = make_board(
        Summary(
            stream_id="abc",
            seq=9,
            reason="stopped",
            duration_s=62,
            received_samples=1,
            channels=(channel,),
            alerts=1,
        )
    )
    text = shown(board)
    assert "■ ended (stopped) after 1:02.00, alerts: 1" in text
    assert "customer  angry 16 s  sad 4 s  of 20 s of speech" in text


def test_a_strip_is_a_cell_a_second():
    channel = make_board(segment(0, 30, "happy"), gap(30, 60, "silence")).channels[1]
    assert strip(channel, 59.9).plain == "█" * 30 + "·" * 30
    assert strip(channel, 89.9).plain == "·" * 30 + " " * 30


def test_a_level_meter_has_ends():
    assert level_bar(-100).plain == level_bar(5).plain == "━" * 12
    styles = [str(each.style) for each in level_bar(-30).spans]
    assert styles == ["cyan", "grey23"]
    assert str(level_bar(0).spans[0].style) == "red"
