from __future__ import annotations

import pytest

from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ProtocolError
from stream_server.wire.messages import Discarded, Flush, Mark, Pause, Resume
from stream_server.wire.replay_log import ReplayLog


def make_log(max_bytes: int = 100_000, num_channels: int = 1) -> ReplayLog:
    log = ReplayLog(AudioFormat("mulaw", 8000, num_channels), max_bytes)
    log.begin_stream()
    return log


def test_what_is_said_is_taken_once_and_in_order():
    log = make_log()
    log.add_audio(b"ab")
    log.add_control(Mark(name="m"))
    log.add_audio(b"cd")
    assert log.take() == [b"ab", Mark(name="m"), b"cd"]
    assert log.take() == []
    log.add_audio(b"e")
    assert log.take() == [b"e"]


def test_positions_count_everything():
    log = make_log(num_channels=2)
    log.add_audio(b"aabb")
    log.add_control(Discarded(samples=5))
    log.add_control(Pause())
    assert log.paused
    log.add_control(Resume(paused_samples=7))
    log.add_control(Flush())
    assert (log.start_sample, log.end_sample, log.paused) == (0, 14, False)


def test_a_sample_of_all_channels_is_never_split():
    log = make_log(num_channels=4)
    log.add_audio(b"aaaab")
    assert log.take() == [b"aaaa"]
    log.add_audio(b"b")
    assert not log.has_unsent
    log.add_audio(b"bbcc")
    assert log.take() == [b"bbbb"]
    assert log.end_sample == 2


def test_large_audio_goes_in_pieces_of_whole_samples():
    log = make_log(1 << 20, num_channels=3)
    log.add_audio(bytes(100_000))
    sizes = [len(piece) for piece in log.take() if isinstance(piece, bytes)]
    assert sum(sizes) == 99_999
    assert all(size % 3 == 0 and size <= 32_768 for size in sizes)


def test_discards_that_wait_become_one():
    log = make_log()
    log.add_control(Discarded(samples=2))
    log.add_control(Discarded(samples=3))
    assert log.take() == [Discarded(samples=5)]
    log.add_control(Discarded(samples=4))
    assert log.take() == [Discarded(samples=4)]
    assert log.end_sample == 9


def test_what_the_server_has_is_forgotten():
    log = make_log()
    log.add_audio(b"ab")
    log.add_control(Flush())
    log.add_audio(b"cd")
    log.take()
    log.forget(1, 0)
    assert log.start_sample == 0
    log.forget(2, 1)
    assert log.start_sample == 2
    log.forget(4, 1)
    assert (log.start_sample, log.num_kept_bytes) == (4, 0)


def test_what_was_not_sent_is_not_forgotten():
    log = make_log()
    log.add_audio(b"ab")
    log.forget(2, 0)
    assert log.take() == [b"ab"]


def test_a_new_connection_goes_on_where_the_server_is():
    log = make_log()
    log.add_audio(b"abcd")
    log.add_control(Mark(name="1"))
    log.add_control(Mark(name="2"))
    log.add_audio(b"e")
    log.take()
    log.disconnected()
    log.add_audio(b"f")
    log.go_on(3, 0, paused=False)
    assert log.take() == [b"d", Mark(name="1"), Mark(name="2"), b"e", b"f"]
    log.disconnected()
    log.go_on(4, 1, paused=False)
    assert log.take() == [Mark(name="2"), b"e", b"f"]


def test_a_new_stream_gets_all_that_is_kept():
    log = make_log()
    log.add_audio(b"ab")
    log.add_control(Flush())
    log.add_audio(b"cd")
    log.take()
    log.forget(2, 1)
    log.disconnected()
    log.begin_stream()
    assert (log.start_sample, log.take()) == (2, [b"cd"])


def test_a_new_stream_that_begins_in_a_pause_is_told_of_it():
    log = make_log()
    log.add_control(Pause())
    log.take()
    log.forget(0, 1)
    log.disconnected()
    log.begin_stream()
    log.add_control(Resume(paused_samples=2))
    assert log.take() == [Pause(), Resume(paused_samples=2)]


def test_the_oldest_goes_when_the_log_is_full():
    log = make_log(10)
    for letter in b"abcdefghijklmno":
        log.add_audio(bytes([letter]))
    assert (log.start_sample, log.end_sample) == (5, 15)
    assert log.num_kept_bytes == 10
    log.begin_stream()
    assert b"".join(piece for piece in log.take() if isinstance(piece, bytes)) == b"fghijklmno"


def test_what_is_dropped_unsent_becomes_discarded():
    log = make_log(10)
    log.add_audio(b"a")
    assert log.take() == [b"a"]
    for letter in b"bcdefghijklmn":
        log.add_audio(bytes([letter]))
    discarded, *audio = log.take()
    assert discarded == Discarded(samples=3)
    assert audio == [bytes([letter]) for letter in b"efghijklmn"]


def test_what_is_dropped_after_it_was_sent_is_not_missed():
    log = make_log(10)
    for letter in b"abcdefghijklmno":
        log.add_audio(bytes([letter]))
        assert log.take() == [bytes([letter])]


def test_a_dropped_resume_is_made_up_for():
    log = make_log(1000)
    log.add_control(Pause())
    log.take()
    log.add_control(Resume(paused_samples=4))
    log.add_audio(bytes(900))
    assert log.take() == [Resume(paused_samples=4), bytes(900)]


def test_a_dropped_pause_is_made_up_for():
    log = make_log(1200)
    log.add_audio(b"ab")
    log.add_control(Pause())
    log.add_control(Resume(paused_samples=4))
    log.add_control(Flush())
    assert log.take() == [Discarded(samples=2), Pause(), Resume(paused_samples=4), Flush()]


@pytest.mark.parametrize("end_sample", [3, 100])
def test_a_server_cannot_have_what_was_never_sent(end_sample: int):
    log = make_log()
    log.add_audio(b"ab")
    log.take()
    log.disconnected()
    log.add_audio(b"cd")
    with pytest.raises(ProtocolError, match=f"got received_samples {end_sample}"):
        log.go_on(end_sample, 0, paused=False)


def test_a_server_is_never_within_a_discard():
    log = make_log()
    log.add_control(Discarded(samples=5))
    log.take()
    log.disconnected()
    with pytest.raises(ProtocolError, match="got received_samples 3"):
        log.go_on(3, 0, paused=False)
