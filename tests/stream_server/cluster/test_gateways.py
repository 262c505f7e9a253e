"""What a server knows of the streams of others, from messages alone."""

from __future__ import annotations

from msgspec.structs import replace

from stream_server.bus import Bus
from stream_server.cluster import gateways
from stream_server.cluster.gateways import (
    ALERT_WAITS_S,
    HELD_FOR_S,
    LOST_AFTER_S,
    Batch,
    Others,
    State,
    Streams,
)
from stream_server.streams.live_streams import LiveStreams
from stream_server.wire.messages import Heartbeat
from stream_server.wire.results import Alert, Gap, Result, Segment, StreamClosed, StreamOpened
from tests.support.results import make_alert, make_closed, make_opened, make_point, make_segment


class Lab:
    """A server that hears of others, and the bus of one that tells."""

    def __init__(self) -> None:
        self.bus = Bus()
        self._seen = self.bus.subscribe(name="test", capacity=1000)
        self.others = Others(LiveStreams(self.bus), self.bus.publish)
        self.there = Bus()
        self.streams = LiveStreams(self.there)
        self._number = 0
        self._alerts: list[Alert] = []
        self.others.streams(self.answer(), 0.0)

    def batch(self, *results: Result) -> Batch:
        """Publish results at the other server; return the batch with them."""
        self._number += 1
        for result in results:
            self.there.publish(result)
        self._alerts += [one for one in results if isinstance(one, Alert)]
        batch = Batch("one", "run 1", self._number, results)
        decoded = gateways.decode_live(gateways.encode(batch))
        assert decoded == batch
        return batch

    def answer(self) -> Streams:
        alerts = tuple(self._alerts)
        told = Streams("one", "run 1", self._number, self.streams.snapshot(), alerts)
        assert gateways.decode_streams(gateways.encode(told)) == told
        return told

    def seen(self) -> list[tuple[str, int]]:
        return [(type(one).__name__, one.seq) for one in self._seen.take_waiting()]

    def results(self) -> list[Result]:
        return self._seen.take_waiting()


def a_beat(received_s: float) -> Heartbeat:
    return Heartbeat(
        stream_id="s1",
        received_samples=round(received_s * 16_000),
        received_s=received_s,
        published_s=0.0,
        lag_ms=0.0,
        real_time_factor=0.1,
        effective_step_ms=500.0,
    )


def test_a_batch_that_comes_twice_is_shown_once():
    lab = Lab()
    batch = lab.batch(make_opened(), make_point(0.0, seq=1), make_alert(at_s=0.5, seq=2))
    lab.others.batch(batch, 0.0)
    assert lab.seen() == [("StreamOpened", 0), ("Point", 1), ("Alert", 2)]
    lab.others.batch(batch, 0.1)
    lab.others.kept(make_alert(at_s=0.5, seq=2), 0.1)
    assert lab.seen() == []
    assert lab.others.to_ask == set()
    assert lab.others.server_of("s1") == "one"


def test_what_servers_hold_of_a_tokens_limit_is_added_up_while_they_are_heard():
    others = Lab().others
    others.state(State("one", "run 1", 0, of_token={"shop": 2}), 10.0)
    # Of a release that does not tell, and of one whose streams change.
    others.state(State("two", "run 2", 0), 10.0)
    batch = Batch("three", "run 3", 1, (make_opened("s3"),), of_token={"shop": 1, "bank": 1})
    others.batch(batch, 11.0)
    assert others.of_token(11.0) == {"shop": 3, "bank": 1}
    others.state(State("one", "run 1", 0, of_token={}), 12.0)
    # Its batch waits for the streams before it; what it held then is not taken for news.
    others.state(State("three", "run 3", 1, of_token={"shop": 4}), 12.0)
    others.streams(Streams("three", "run 3", 1, ()), 12.5)
    assert others.of_token(12.5) == {"shop": 4}
    assert others.of_token(12.0 + HELD_FOR_S) == {}
    others.state(State("three", "run 3", 1, has_left=True), 12.6)
    assert others.of_token(12.6) == {}


def test_what_was_missed_is_asked_for_and_made_up_for():
    lab = Lab()
    lab.others.batch(
        lab.batch(
            make_opened(),
            make_segment(0, 1, final=False, seq=1),
            make_alert(at_s=0.5, seq=2, alert_id="a1"),
            make_opened("s2"),
        ),
        0.0,
    )
    lab.seen()
    # Lost: the first alert is cleared and another one raised, s2 ends, s3 begins.
    lab.batch(
        make_alert("cleared", at_s=2.0, seq=3, alert_id="a1"),
        make_segment(0, 3, final=False, seq=4),
        make_alert(at_s=3.0, seq=5, alert_id="a2"),
        make_closed("s2", seq=1),
        make_opened("s3"),
    )
    lab.others.batch(lab.batch(make_point(3.0, seq=6)), 1.0)
    assert lab.others.to_ask == {"one"}
    lab.seen()
    lab.others.streams(lab.answer(), 1.1)
    results = lab.results()
    closed = [one.stream_id for one in results if isinstance(one, StreamClosed)]
    opened = [one.stream_id for one in results if isinstance(one, StreamOpened)]
    alerts = {(one.alert_id, one.state) for one in results if isinstance(one, Alert)}
    assert (closed, opened) == (["s2"], ["s3"])
    assert alerts == {("a1", "cleared"), ("a2", "raised")}
    # What came after the loss waited for what was lost.
    assert [one.seq for one in results if one.stream_id == "s1"] == [3, 4, 5, 6]
    lab.others.batch(lab.batch(make_point(3.5, seq=7)), 1.2)
    assert lab.seen() == [("Point", 7)]


def test_a_kept_alert_waits_for_the_results_before_it():
    lab = Lab()
    raised = make_alert(at_s=0.5, seq=2)
    lab.others.kept(raised, 0.0)
    lab.others.batch(lab.batch(make_opened(), make_point(0.0, seq=1), raised), 0.1)
    cleared = make_alert("cleared", at_s=2.0, seq=4)
    lab.others.kept(cleared, 1.0)
    lab.others.expire(1.1)
    assert lab.seen() == [("StreamOpened", 0), ("Point", 1), ("Alert", 2)]
    # The batch with it was lost.
    lab.batch(make_point(1.0, seq=3), cleared)
    lab.others.state(State("one", "run 1", 2), 2.0)
    lab.others.streams(lab.answer(), 2.1)
    assert lab.seen() == [("Point", 3), ("Alert", 4)]


def test_a_kept_alert_of_a_stream_that_nobody_knows_is_published_after_a_while():
    lab = Lab()
    lab.others.kept(make_alert(seq=2, stream_id="s7"), 10.0)
    lab.others.expire(10.0 + ALERT_WAITS_S - 0.1)
    assert lab.seen() == []
    lab.others.expire(10.0 + ALERT_WAITS_S)
    assert lab.seen() == [("Alert", 2)]
    # It is shown with its stream where that turns up after all.
    lab.others.state(State("one", "run 1", 1), 20.0)
    lab.batch(make_opened("s7"), make_alert(seq=2, stream_id="s7"))
    lab.others.streams(lab.answer(), 20.1)
    assert lab.seen() == [("StreamOpened", 0), ("Alert", 2)]


def test_after_an_outage_all_results_are_shown_if_all_batches_came():
    lab = Lab()
    lab.others.batch(lab.batch(make_opened()), 0.0)
    lab.seen()
    lab.others.connected(9.0)
    assert lab.others.to_ask == {"one"}
    points = [lab.batch(make_point(at_s / 2, seq=at_s + 1)) for at_s in range(3)]
    for each in points[:2]:
        lab.others.batch(each, 9.1)
    # The third is on its way.
    lab.others.streams(replace(lab.answer(), number=3), 9.2)
    lab.others.batch(points[2], 9.3)
    assert lab.seen() == [("Point", 1), ("Point", 2), ("Point", 3)]


def test_a_server_that_starts_later_shows_what_runs_elsewhere():
    lab = Lab()
    lab.batch(make_opened(), make_segment(0, 1, final=False, seq=1), make_point(0.5, seq=2))
    lab.others.state(State("one", "run 1", 1), 0.0)
    assert lab.others.to_ask == {"one"}
    # What comes before the answer waits for it.
    lab.others.batch(lab.batch(make_point(1.0, seq=3)), 0.1)
    answer = lab.answer()
    lab.others.batch(lab.batch(make_point(1.5, seq=4)), 0.2)
    assert lab.seen() == []
    lab.others.streams(answer, 0.3)
    assert lab.seen() == [("StreamOpened", 0), ("Segment", 1), ("Point", 3), ("Point", 4)]
    assert lab.others.to_ask == set()


def test_streams_of_a_server_that_is_gone_end_and_come_back_with_it():
    lab = Lab()
    lab.others.batch(lab.batch(make_opened(), make_segment(0, 1, final=False, seq=1)), 0.0)
    lab.others.state(State("one", "run 1", 1, (a_beat(2.5),)), 1.0)
    beat = lab.others.heartbeat("s1")
    assert beat is not None and beat.received_s == 2.5
    lab.results()
    lab.others.expire(1.0 + LOST_AFTER_S)
    assert lab.results() == []
    # The bus was away: nobody could be heard.
    lab.others.connected(100.0)
    lab.others.expire(100.0 + LOST_AFTER_S)
    assert lab.results() == []
    lab.others.expire(101.0 + LOST_AFTER_S)
    final, gap, closed = lab.results()
    assert isinstance(final, Segment) and final.final
    assert isinstance(gap, Gap) and (gap.reason, gap.start_s, gap.end_s) == ("error", 1.0, 2.5)
    assert isinstance(closed, StreamClosed) and closed.reason == "internal"
    assert lab.others.heartbeat("s1") is None
    # It was cut off only.
    lab.others.state(State("one", "run 1", 1), 200.0)
    lab.others.streams(lab.answer(), 200.0)
    assert ("StreamOpened", 0) in lab.seen()


def test_another_run_of_a_server_takes_the_place_of_the_former():
    lab = Lab()
    lab.others.batch(lab.batch(make_opened()), 0.0)
    lab.seen()
    lab.others.batch(Batch("one", "run 2", 1, (make_opened("s9"),)), 1.0)
    lab.others.streams(Streams("one", "run 2", 0, ()), 1.0)
    assert lab.seen() == [("StreamClosed", 1), ("StreamOpened", 0)]
    lab.others.state(State("one", "run 2", 1, has_left=True), 2.0)
    assert lab.seen() == [("StreamClosed", 1)]
    assert len(lab.others) == 0
