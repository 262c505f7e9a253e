from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ser_engine.config import EngineConfig, TimelineConfig, VadConfig
from ser_engine.types import FloatArray
from stream_server.streams.session_results import ChannelWindow
from stream_server.wire.audio_format import Encoding
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.results import (
    Flushed,
    Gap,
    Marked,
    Measures,
    Result,
    Segment,
    StreamClosed,
    StreamOpened,
    Summary,
    Warning,
)
from tests.stream_server.streams.sessions import (
    CONFIG,
    answer,
    babble,
    catch_up,
    check_tiling,
    drive,
    encode,
    gap_spans,
    make_session,
    points,
    summary,
    tiles,
)
from tests.support.fake_engine import FakeEngine

FORMATS: list[tuple[Encoding, int]] = [
    ("pcm_s16le", 16_000),
    ("pcm_f32le", 48_000),
    ("mulaw", 8000),
    ("alaw", 11_025),
]


def kinds(results: list[Result]) -> list[type]:
    return [type(each) for each in results]


class TestChunking:
    @pytest.mark.parametrize(("encoding", "rate_hz"), FORMATS)
    # How a channel's audio is split is tried at length in tests/ser_engine/timeline, how bytes
    # are in test_intake.py: here, that both fit together.
    @settings(max_examples=6)
    @example(sizes=[1] * 3001)
    @given(sizes=st.lists(st.integers(1, 9001), max_size=12))
    def test_any_split_gives_the_same_results(
        self, encoding: Encoding, rate_hz: int, sizes: list[int]
    ):
        data = encode(babble(rate_hz * 3 // 2, rate_hz=rate_hz, channels=2), encoding)
        roles = ("customer", "driver")
        whole = drive(make_session(encoding, rate_hz, roles), data)
        assert points(whole, 0)
        assert drive(make_session(encoding, rate_hz, roles), data, sizes) == whole

    @pytest.mark.parametrize("bad", [0, 12_345, 23_999])
    def test_bad_audio_is_the_same_gap_in_any_split(self, bad: int):
        audio = babble(24_000)
        audio[bad] = np.nan
        data = encode(audio, "pcm_f32le")
        whole = drive(make_session("pcm_f32le"), data)
        check_tiling(whole, 24_000)
        # The last samples before it belong to the slot before.
        assert next(gap for gap in gap_spans(whole) if gap[2] == "error")[0] == bad
        assert drive(make_session("pcm_f32le"), data, [333, 9001, 5] * 9) == whole

    def test_bad_audio_is_an_error_for_the_client(self):
        session = make_session("pcm_f32le")
        session.receive(np.full(1600, np.nan, dtype="<f4").tobytes())
        catch_up(session, FakeEngine())
        (error,) = session.take_errors()
        assert error.code is ErrorCode.BAD_AUDIO

    def test_windows_come_one_boundary_at_a_time(self):
        session = make_session(roles=("customer", "driver"))
        session.receive(encode(babble(48_000, channels=2), "pcm_s16le"))
        num_windows = 0
        while session.has_backlog:
            windows = session.advance()
            num_windows += len(windows)
            assert [channel for channel, _ in windows] in ([], [0], [1], [0, 1])
            assert len({window.end_sample for _, window in windows}) <= 1
        assert num_windows > 20

    def test_short_messages_wait_for_a_block_or_a_boundary(self):
        config = EngineConfig(timeline=TimelineConfig(step_ms=500), vad=CONFIG.vad)
        session = make_session(config=config)
        backlog = []
        for _ in range(50):
            session.receive(bytes(640))
            backlog.append(session.has_backlog)
            catch_up(session, FakeEngine())
        assert [index + 1 for index, waits in enumerate(backlog) if waits] == [25, 50]

    def test_what_is_let_in_without_asking_makes_nothing_due(self):
        config = EngineConfig(timeline=TimelineConfig(step_ms=500), vad=CONFIG.vad)
        session = make_session(config=config)
        session.receive(bytes(8 * 640))  # which is looked at for a format
        assert session.take_at_once(bytes(639)) and session.inlet.room_bytes == 0  # a cut sample
        session.receive(bytes(1))
        assert session.take_at_once(bytes(640)) and session.inlet.room_bytes == 15 * 640
        # Room is for less: with the last byte of it a block is whole.
        assert not session.take_at_once(bytes(15 * 640))
        session.inlet.waiting += bytes(15 * 640 - 2)
        assert not session.has_backlog and session.received_samples == 8000 - 1
        # While a block is processed two seconds may come on top of it.
        assert session.take_at_once(bytes(640), is_processing=True)
        assert 2 * 31_000 < session.inlet.room_bytes < 2 * 32_000


class TestMeasures:
    def test_of_a_channel_that_is_not_analysed_only_when_it_speaks(self):
        audio = babble(12 * 16_000, channels=2)
        audio[:, 1] = np.roll(audio[:, 1], 4000)
        results = drive(make_session(roles=("customer", "agent")), encode(audio, "pcm_s16le"))
        told = [each for each in results if isinstance(each, Measures)]
        assert [each.at_s for each in told] == [5.0, 10.0]
        measured = summary(results).measures
        assert measured is not None
        customer, agent = measured.channels
        assert (customer.role, agent.role) == ("customer", "agent")
        assert customer.voice is not None and customer.voice.pitch_hz is not None
        assert agent.talk_s > 4 and measured.overlap_s > 1
        assert agent.voice is None
        assert {each.channel for each in results if isinstance(each, Segment)} == {0}

    def test_none_where_they_are_off(self):
        session = make_session(roles=("customer", "agent"), measures="off")
        results = drive(session, encode(babble(96_000, channels=2), "pcm_s16le"))
        assert summary(results).measures is None
        assert not [each for each in results if isinstance(each, Measures)]


class TestAccounting:
    @settings(max_examples=40)
    @given(
        encoding_and_rate=st.sampled_from(FORMATS),
        actions=st.lists(
            st.tuples(
                st.integers(0, 9000),
                st.sampled_from(["audio", "flush", "pause", "discard", "lose", "rejoin", "mark"]),
                st.integers(0, 9000),
                st.booleans(),
            ),
            max_size=12,
        ),
        fates=st.lists(st.sampled_from(["answer", "skip", "forget", "later"]), min_size=1),
    )
    def test_every_sample_is_accounted_for_once(
        self,
        encoding_and_rate: tuple[Encoding, int],
        actions: list[tuple[int, str, int, bool]],
        fates: list[str],
    ):
        encoding, rate_hz = encoding_and_rate
        session, engine = (
            make_session(encoding, rate_hz, ("customer", "agent", "driver")),
            FakeEngine(),
        )
        audio = encode(babble(9000, rate_hz=rate_hz, channels=3), encoding)
        tick = len(audio) // 9000
        kept, number = [], 0

        def treat(windows):
            nonlocal number
            for channel, window in windows:
                number += 1
                match fates[number % len(fates)]:
                    case "answer":
                        session.answer(channel, window, engine.run(window))
                    case "skip":
                        session.skip(channel, window)
                    case "later":
                        kept.append((channel, window))

        session.opened(at=0.0)
        total = 0
        for ticks, action, length, counted in actions:
            session.receive(audio[: ticks * tick])
            total += ticks
            while session.has_backlog:
                treat(session.advance())
            match action:
                case "flush":
                    treat(session.flush())
                case "pause":
                    treat(session.pause())
                    treat(session.resume(length, is_counted=counted))
                    total += length
                case "discard":
                    treat(session.discard(length))
                    total += length
                case "lose":
                    treat(session.lose(length))
                    total += length
                case "rejoin":
                    treat(session.rejoin(session.received_samples + length))
                    total += length
                case "mark":
                    session.mark("here")
            for channel, window in kept[::-1]:
                session.answer(channel, window, engine.run(window))
            kept.clear()
        treat(session.finish())
        session.close("stopped", at=1.0)
        results = session.take_results()
        num_samples = total * 16_000 // rate_hz
        assert session.clock_samples == num_samples
        check_tiling(results, num_samples, [0, 2])
        assert tiles(results, 1) == []

    def test_close_accounts_for_what_was_never_processed(self):
        session = make_session()
        session.receive(encode(babble(24_000), "pcm_s16le"))
        session.close("client_lost", at=1.0)
        results = session.take_results()
        check_tiling(results, 24_000)
        assert "overload" in {reason for _, _, reason in gap_spans(results)}
        session.close("stopped", at=2.0)
        assert session.take_results() == []

    def test_when_the_engine_failed_what_is_open_is_an_error(self):
        session = make_session()
        session.receive(encode(babble(24_000), "pcm_s16le"))
        session.close("engine_failed", at=1.0)
        reasons = {reason for _, _, reason in gap_spans(session.take_results())}
        assert reasons == {"error", "silence"}

    def test_late_answers_change_nothing(self):
        session, engine = make_session(), FakeEngine()
        session.receive(encode(babble(24_000), "pcm_s16le"))
        (window,) = session.advance()
        session.close("stopped", at=1.0)
        session.take_results()
        answer(session, [window], engine)
        session.skip(*window)
        assert session.take_results() == []

    def test_progress_is_known(self):
        session = make_session(rate_hz=8000, roles=("customer", "driver"))
        session.receive(encode(babble(8000, rate_hz=8000, channels=2), "pcm_s16le")[:-1])
        assert session.received_samples == 7999
        assert session.received_s == pytest.approx(1.0, abs=1e-3)
        assert session.clock_samples == 0
        windows = []
        while session.has_backlog:
            windows += session.advance()
        assert session.clock_samples > 14_000
        assert session.pending_windows == len(windows)
        before = session.published_s
        only_one = [each for each in windows if each[0] == 0]
        answer(session, only_one, FakeEngine())
        assert session.published_s == before
        answer(session, [each for each in windows if each[0] == 1], FakeEngine())
        assert session.published_s > 0.8


class TestInterruptions:
    def test_pauses_discards_and_losses_are_gaps_of_their_length(self):
        data = encode(babble(16_000, rate_hz=8000), "mulaw")
        session, engine = make_session("mulaw", 8000), FakeEngine()

        def pause():
            answer(session, session.pause(), engine)
            return session.resume(4000)

        results = drive(
            session,
            data,
            engine=engine,
            at_bytes={
                2001: pause,
                5000: lambda: session.discard(100),
                9000: lambda: session.lose(50),
            },
        )
        check_tiling(results, 2 * (16_000 + 4150))
        interruptions = [
            gap for gap in gap_spans(results) if gap[2] not in ("silence", "too_short")
        ]
        assert interruptions == [
            (4002, 12_002, "paused"),
            (18_000, 18_200, "discarded"),
            (26_200, 26_300, "lost"),
        ]
        assert summary(results).received_samples == 20_150

    def test_a_pause_that_was_measured_here_is_not_counted_by_the_client(self):
        session = make_session()
        session.receive(bytes(3200))
        session.pause()
        session.resume(16_000, is_counted=False)
        assert session.received_samples == 1600
        assert session.received_s == 1.1

    def test_audio_in_a_pause_is_refused(self):
        session = make_session()
        session.pause()
        assert session.is_paused
        with pytest.raises(ProtocolError, match="'resume' first"):
            session.receive(bytes(2))
        with pytest.raises(ProtocolError, match="'pause' while paused"):
            session.pause()
        session.resume(0)
        session.receive(bytes(2))
        with pytest.raises(ProtocolError, match="without a pause"):
            session.resume(0)

    @pytest.mark.parametrize("action", ["discard", "lose", "rejoin"])
    def test_negative_lengths_are_refused(self, action: str):
        session = make_session()
        with pytest.raises(ProtocolError, match="got -1"):
            getattr(session, action)(-1)

    def test_after_a_reconnect_it_goes_on_where_it_was_and_missing_audio_is_lost(self):
        data = encode(babble(32_000), "pcm_s16le")
        whole = drive(make_session(), data)
        session, engine = make_session(), FakeEngine()
        session.opened(at=1.0)
        session.receive(data[:20_001])
        catch_up(session, engine)
        assert session.received_samples == 10_000
        answer(session, session.rejoin(6000), engine)
        for start in range(20_000, len(data), 1111):
            session.receive(data[start : start + 1111])
            catch_up(session, engine)
        answer(session, session.finish(), engine)
        session.close("stopped", at=2.0)
        assert session.take_results() == whole

        session = make_session()
        session.receive(data[:20_001])
        catch_up(session, engine)
        answer(session, session.rejoin(12_000), engine)
        assert session.received_samples == 12_000
        session.close("stopped", at=2.0)
        assert (10_000, 12_000, "lost") in gap_spans(session.take_results())

    def test_nothing_is_taken_after_the_end(self):
        session = make_session()
        session.finish()
        for call in (session.finish, session.flush, session.pause, lambda: session.mark("a")):
            with pytest.raises(RuntimeError, match="finished"):
                call()
        with pytest.raises(RuntimeError, match="finished"):
            session.receive(b"")


class TestMarks:
    def test_a_mark_comes_back_at_its_position_after_what_was_before(self):
        data = encode(babble(48_000, channels=2), "pcm_s16le")
        session = make_session(roles=("customer", "driver"))
        results = drive(session, data, at_bytes={80_000: lambda: session.mark("here")})
        (mark,) = [each for each in results if isinstance(each, Marked)]
        assert (mark.name, mark.at_sample, mark.at_s) == ("here", 20_000, 1.25)
        before = results[: mark.seq]
        for channel in (0, 1):
            # What follows the mark is about audio after it, save one slot and the look-ahead.
            following = [each for each in results[mark.seq :] if each in points(results, channel)]
            assert all(each.end_sample > 20_000 - 400 for each in following)
            assert points(before, channel)

    def test_marks_keep_their_order_and_come_at_the_end_at_the_latest(self):
        session = make_session()
        for name in "abc":
            session.receive(bytes(100))
            session.mark(name)
        session.receive(bytes(3000))
        session.mark("d")
        session.close("stopped", at=1.0)
        results = session.take_results()
        marks = [each for each in results if isinstance(each, Marked)]
        assert [(mark.name, mark.at_sample) for mark in marks] == [
            ("a", 50),
            ("b", 100),
            ("c", 150),
            ("d", 1650),
        ]
        assert kinds(results)[-2:] == [Summary, StreamClosed]

    def test_a_flush_publishes_everything_that_is_complete(self):
        data = encode(babble(24_000, rate_hz=8000), "alaw")[:9117]
        session, engine = make_session("alaw", 8000), FakeEngine()
        session.receive(data)
        catch_up(session, engine)
        windows = session.flush()
        assert windows
        assert Flushed not in kinds(session.take_results())
        answer(session, windows, engine)
        results = session.take_results()
        assert isinstance(results[-1], Flushed)
        assert results[-1].at_sample == 18_234
        assert 18_234 - 400 < session.published_s * 16_000 <= 18_234

    def test_too_many_marks_are_refused(self):
        session = make_session()
        session.receive(bytes(8000))
        for _ in range(1000):
            session.mark("a")
        with pytest.raises(ProtocolError, match="1000 wait"):
            session.mark("a")


class TestChannels:
    def test_each_channel_is_as_if_it_were_alone(self):
        audio = babble(32_000, channels=2)
        both = drive(make_session(roles=("customer", "driver")), encode(audio, "pcm_s16le"))
        for channel, role in enumerate(("customer", "driver")):
            data = encode(audio[:, channel : channel + 1], "pcm_s16le")
            alone = drive(make_session(roles=(role,)), data)
            assert [(p.end_sample, p.posteriors, p.role) for p in points(both, channel)] == [
                (p.end_sample, p.posteriors, p.role) for p in points(alone)
            ]
            assert [(t.start_sample, t.end_sample) for t in tiles(both, channel)] == [
                (t.start_sample, t.end_sample) for t in tiles(alone)
            ]

    def test_only_roles_that_are_analysed_have_results(self):
        session = make_session(roles=("agent", "customer"))
        assert [each.analysed for each in session.channels] == [False, True]
        assert session.analysed == (1,)
        results = drive(session, encode(babble(32_000, channels=2), "pcm_s16le"))
        assert not points(results, 0)
        assert points(results, 1)
        assert [each.channel for each in summary(results).channels] == [1]

    def test_a_stream_without_an_analysed_role_is_refused(self):
        with pytest.raises(ProtocolError, match="roles agent") as caught:
            make_session(roles=("agent", "agent"))
        assert caught.value.code is ErrorCode.NOTHING_TO_ANALYSE

    def test_the_tap_hears_every_channel_and_gaps_as_silence(self):
        heard: dict[int, list[FloatArray]] = {0: [], 1: []}
        session = make_session(
            roles=("agent", "customer"), tap=lambda channel, part: heard[channel].append(part)
        )
        audio = babble(20_000, channels=2)
        data = encode(audio, "pcm_s16le")
        drive(session, data, [999] * 10, at_bytes={40_000: lambda: session.lose(30_000)})
        for channel in (0, 1):
            track = np.concatenate(heard[channel])
            assert len(track) == 50_000
            assert not track[10_000:40_000].any()
            np.testing.assert_allclose(track[:10_000], audio[:10_000, channel], atol=1e-4)
            np.testing.assert_allclose(track[40_000:], audio[10_000:, channel], atol=1e-4)

    def test_windows_carry_a_key_of_their_channel(self):
        session = make_session(roles=("agent", "customer"))
        session.receive(encode(babble(8000, channels=2), "pcm_s16le"))
        windows = []
        while session.has_backlog:
            windows += session.advance()
        assert {window.stream_key for _, window in windows} == {"id/1"}


class TestResults:
    def test_a_stream_begins_and_ends_with_its_frame(self):
        session = make_session(roles=("agent", "customer"))
        results = drive(session, encode(babble(24_000, channels=2), "pcm_s16le"))
        opened, *_, told, closed = results
        assert isinstance(opened, StreamOpened)
        assert (opened.seq, opened.name, opened.metadata) == (0, "a stream", {"key": "value"})
        assert opened.labels == FakeEngine().info.labels.names
        assert (opened.sample_rate, opened.encoding, opened.step_ms) == (16_000, "pcm_s16le", 100)
        assert opened.opened_at == 1.0
        assert isinstance(told, Summary)
        assert (told.reason, told.duration_s, told.alerts) == ("stopped", 1.5, 0)
        assert isinstance(closed, StreamClosed)
        assert closed.closed_at == 2.0
        with pytest.raises(RuntimeError, match="call it first"):
            session.opened(at=3.0)

    def test_others_can_put_results_in_order(self):
        session = make_session()
        session.opened(at=0.0)
        told = session.publish(
            Warning, code="faster_than_real_time", channel=None, message="slow down", at_s=0.0
        )
        assert told.seq == 1
        assert session.next_seq == 2
        assert session.take_results()[-1] is told

    def test_numbers_are_short_and_times_exact(self):
        results = drive(make_session(), encode(babble(48_000), "pcm_s16le"))
        for point in points(results):
            assert all(round(value, 6) == value for value in point.posteriors)
            assert abs(sum(point.posteriors) - 1) < 1e-5
            assert point.confidence in point.posteriors
            assert (point.start_s, point.end_s) == (
                point.start_sample / 16_000,
                point.end_sample / 16_000,
            )
            assert point.frames is None
            assert point.model == "fake"

    def test_frames_come_where_they_are_wanted(self):
        session = make_session(wants=("points", "frames"))
        results = drive(session, encode(babble(24_080), "pcm_s16le"))
        starts: list[int] = []
        for point in points(results):
            assert point.frames is not None
            starts += point.frames.start_samples
            assert point.frames.hop_samples == 320
            assert point.frames.labels[-1] == point.label
            assert point.frames.posteriors[-1] == point.posteriors
        segments = [each for each in tiles(results) if isinstance(each, Segment)]
        in_segments = sum(each.end_sample - each.start_sample for each in segments)
        assert len(starts) == len(set(starts)) == in_segments // 320

    def test_telephone_audio_is_flagged(self):
        data = encode(babble(16_000, rate_hz=8000), "mulaw")
        results = drive(make_session("mulaw", 8000), data)
        assert all(point.narrow_band for point in points(results))
        warnings = [each for each in results if isinstance(each, Warning)]
        assert [(each.code, each.channel, each.at_s) for each in warnings] == [
            ("narrow_band", 0, 0.0)
        ]

    def test_a_skipped_window_widens_the_next_point(self):
        config = EngineConfig(
            timeline=CONFIG.timeline, smoothing=CONFIG.smoothing, vad=VadConfig(detector="off")
        )
        session, engine = make_session(config=config), FakeEngine()
        session.receive(encode(babble(16_000), "pcm_s16le"))
        for number in range(5):
            windows = session.advance()
            if number in (2, 3):
                session.skip(*windows[0])
            else:
                answer(session, windows, engine)
        told = points(session.take_results())
        assert [point.widened for point in told] == [False, False, True]
        assert not any(isinstance(each, Gap) for each in session.take_results())


def test_a_wrong_byte_order_is_named_once_and_no_gain_is_blamed():
    data = (babble(10 * 16_000) * 32_767).astype(">i2").tobytes()
    results = drive(make_session(), data)
    (warning,) = [each for each in results if isinstance(each, Warning)]
    assert warning.channel is None
    assert (
        "looks like big-endian 16-bit PCM, but 16-bit PCM (pcm_s16le) was told" in warning.message
    )
    assert warning.at_s < 3
    sizes = 2 * np.random.default_rng(0).integers(1, 2500, 80)
    assert drive(make_session(), data, sizes.tolist()) == results


def test_clipping_of_audio_in_the_format_told_is_reported_even_of_a_short_stream():
    audio = np.clip(20 * babble(16_000 + 8000), -1, 1)
    results = drive(make_session(), encode(audio, "pcm_s16le"))
    assert [each.code for each in results if isinstance(each, Warning)] == ["clipping"]


@pytest.mark.parametrize("rate_hz", [8000, 16_000])
def test_what_is_withheld_is_a_gap_however_the_audio_is_split(rate_hz: int):
    data = encode(babble(3 * rate_hz, rate_hz=rate_hz), "pcm_s16le")
    second = 2 * rate_hz
    found = []
    for sizes in ((), (321,) * 40, (rate_hz,)):
        heard: list[float] = []

        def tap(_: int, samples: FloatArray, heard: list[float] = heard) -> None:
            heard.extend(samples.tolist())

        session = make_session(rate_hz=rate_hz, tap=tap)
        changes: dict[int, Callable[[], Iterable[ChannelWindow] | None]] = {
            second: partial(session.settle, "no_consent"),
            2 * second: partial(session.settle, None),
        }
        results = drive(session, data, sizes, at_bytes=changes)
        check_tiling(results, 3 * 16_000)
        assert (16_000, 32_000, "no_consent") in gap_spans(results)
        assert len(heard) == 48_000
        assert not any(heard[16_000:32_000]), "it is not recorded either"
        assert any(heard[:16_000]) and any(heard[32_000:])
        found.append(results)
    assert found[0] == found[1] == found[2]
