from __future__ import annotations

import msgspec
import pytest

from stream_server.platforms.deepgram.spans import SilentSpan, SpanTracker, SpeechSpan
from tests.support.results import LABELS, make_gap, make_point, make_segment


def tracker() -> SpanTracker:
    return SpanTracker(LABELS)


def test_a_segment_waits_for_the_point_of_its_zone():
    one = tracker()
    assert one.take(make_point(0.0, angry=0.9)) == []
    assert one.take(make_segment(0.0, 0.7)) == []
    (span,) = one.take(make_point(0.5, angry=0.7, speech_share=0.4))
    assert isinstance(span, SpeechSpan)
    assert (span.start_sample, span.end_sample) == (0, 11_200)
    assert (span.label, span.confidence) == ("angry", 0.8)
    assert not span.goes_on
    assert span.follows_pause
    assert span.speech_share == pytest.approx((0.5 + 0.2 * 0.4) / 0.7, abs=1e-6)
    assert one.pause_since == 11_200
    assert one.current() is None


def test_posteriors_agree_with_the_confidence():
    one = tracker()
    one.take(make_point(0.0, angry=0.6, sad=0.3))
    one.take(make_segment(0.0, 0.5))
    (span,) = one.release()
    assert isinstance(span, SpeechSpan)
    assert span.posteriors == pytest.approx((0.8, 0.0, 0.05, 0.15))


def test_where_no_point_comes_it_is_let_go():
    one = tracker()
    one.take(make_point(0.0, angry=0.9))
    one.take(make_segment(0.0, 0.5))
    (span,) = one.release()
    assert isinstance(span, SpeechSpan)
    assert not span.goes_on
    assert one.release() == []


def test_another_label_goes_on():
    one = tracker()
    one.take(make_point(0.0, angry=0.9))
    one.take(make_segment(0.0, 0.4))
    (span,) = one.take(make_point(0.5, sad=0.9))
    assert isinstance(span, SpeechSpan)
    assert span.goes_on
    assert one.pause_since is None
    current = one.current()
    assert current is not None
    assert (current.start_sample, current.end_sample, current.label) == (6400, 16_000, "sad")
    assert not current.follows_pause


def test_a_short_pause_is_in_order_between_two_spans():
    one = tracker()
    one.take(make_point(0.0, angry=0.9))
    one.take(make_segment(0.0, 0.6))
    one.take(make_gap(0.6, 0.8))
    first, pause = one.take(make_point(0.5, angry=0.8))
    assert isinstance(first, SpeechSpan)
    assert not first.goes_on
    assert pause == SilentSpan(9600, 12_800, "silence")
    current = one.current()
    assert current is not None
    assert (current.start_sample, current.follows_pause) == (12_800, True)


def test_two_changes_in_a_zone():
    one = tracker()
    one.take(make_segment(0.0, 0.2))
    one.take(make_segment(0.2, 0.4, label="sad"))
    first, second = one.take(make_point(0.0, happy=0.9))
    assert isinstance(first, SpeechSpan)
    assert isinstance(second, SpeechSpan)
    assert [first.goes_on, second.goes_on] == [True, True]
    assert [first.follows_pause, second.follows_pause] == [True, False]


def test_what_goes_on_is_cut_and_the_rest_told_apart():
    one = tracker()
    one.take(make_point(0.0, angry=0.9))
    one.take(make_point(0.5, angry=0.7))
    cut = one.cut()
    assert cut is not None
    assert (cut.start_sample, cut.end_sample, cut.label) == (0, 16_000, "angry")
    assert cut.confidence == pytest.approx(0.8)
    assert one.cut() is None
    one.take(make_point(1.0, angry=0.5))
    one.take(make_segment(0.0, 1.5))
    (rest,) = one.release()
    assert isinstance(rest, SpeechSpan)
    assert (rest.start_sample, rest.end_sample) == (16_000, 24_000)
    assert rest.confidence == pytest.approx(0.5)


def test_no_rest_no_second_span():
    one = tracker()
    one.take(make_point(0.0, angry=0.9))
    assert one.cut() is not None
    one.take(make_segment(0.0, 0.51))
    assert one.release() == []
    assert one.pause_since == round(0.51 * 16_000)


def test_an_hour_of_one_span_is_summed_up():
    one = tracker()
    for number in range(2000):
        # The mean tells whether those that are no longer kept one by one were counted.
        one.take(make_point(number * 0.5, angry=0.5, sad=0.5 if number < 1000 else 0.25))
    one.take(make_segment(0.0, 1000.0))
    (span,) = one.release()
    assert isinstance(span, SpeechSpan)
    assert span.posteriors[3] == pytest.approx(0.2 * 0.375 / 0.5)
    assert span.speech_share == 1.0


def test_flags_of_points():
    one = tracker()
    weak = msgspec.structs.replace(make_point(0.0, angry=0.9), provisional=True, narrow_band=True)
    one.take(weak)
    current = one.current()
    assert current is not None
    assert (current.provisional, current.narrow_band) == (True, True)
    one.take(make_point(0.5, angry=0.9))
    one.take(make_segment(0.0, 1.0))
    (span,) = one.release()
    assert isinstance(span, SpeechSpan)
    assert (span.provisional, span.narrow_band) == (False, True)


def test_what_is_not_final_changes_nothing():
    one = tracker()
    assert one.take(make_segment(0.0, 1.0, final=False)) == []
    assert one.take(make_gap(0.0, 1.0, final=False)) == []
    assert one.release() == []
    assert one.pause_since is None
