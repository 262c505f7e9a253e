from __future__ import annotations

import random

from stream_server.wire.errors import Backoff


def test_delays_double_up_to_the_longest_and_vary():
    for number, whole_s in enumerate((1, 2, 4, 8, 10, 10)):
        delays = []
        for seed in range(50):
            backoff = Backoff(1.0, 10.0, random.Random(seed))
            for _ in range(number):
                backoff.next_s()
            delays.append(backoff.next_s())
        assert whole_s / 2 <= min(delays) < max(delays) <= whole_s


def test_it_goes_on_for_weeks_and_begins_anew_after_a_success():
    backoff = Backoff(0.5, 10.0)
    for _ in range(2000):
        backoff.next_s()
    assert backoff.attempts == 2000
    backoff.reset()
    assert backoff.next_s() <= 0.5
    assert backoff.attempts == 1


def test_clients_that_are_told_the_same_time_do_not_come_back_at_once():
    delays = {Backoff(1.0, 10.0, random.Random(seed)).next_s(20.0) for seed in range(10)}
    assert len(delays) == 10
    assert all(20.5 <= each <= 21.0 for each in delays)
