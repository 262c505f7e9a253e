from __future__ import annotations

from stream_server.platforms.authenticators import SeenNonces


def test_a_number_is_new_once():
    seen = SeenNonces()
    assert [seen.is_new(number) for number in "abab"] == [True, True, False, False]


def test_the_oldest_are_forgotten():
    seen = SeenNonces(capacity=2)
    assert all(seen.is_new(number) for number in "abc")
    assert [seen.is_new(number) for number in "bca"] == [False, False, True]
