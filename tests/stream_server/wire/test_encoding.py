from __future__ import annotations

import json

import msgspec
import pytest

from stream_server.wire.feed_messages import ResultEncoder, encode_message, encode_result
from stream_server.wire.results import Point, Result
from tests.support.protocol_lab import FRAMES, heartbeat, point, results


@pytest.mark.parametrize("result", results(), ids=lambda r: type(r).__name__)
def test_a_result_is_the_same_wherever_it_is_encoded(result: Result):
    assert encode_result(result).decode() == ResultEncoder().encode(result)
    assert msgspec.json.decode(encode_result(result), type=Result) == result


def test_other_messages_are_json_with_a_type():
    assert json.loads(encode_message(heartbeat()))["type"] == "heartbeat"


def test_frames_are_left_out_where_they_are_not_wanted():
    whole = point(frames=FRAMES)
    bare = msgspec.json.decode(encode_result(whole, frames=False), type=Point)
    assert bare == point()
    assert msgspec.json.decode(encode_result(whole), type=Point) == whole


def test_a_result_is_encoded_once():
    encoder = ResultEncoder()
    result = point(frames=FRAMES)
    assert encoder.encode(result) is encoder.encode(result)
    assert encoder.encode(result, frames=False) is encoder.encode(result, frames=False)
    assert encoder.encode(result) != encoder.encode(result, frames=False)


def test_a_result_without_frames_is_encoded_once_for_all():
    encoder = ResultEncoder()
    for result in (point(), results()[2]):
        assert encoder.encode(result) is encoder.encode(result, frames=False)


def test_only_recent_results_are_kept():
    encoder = ResultEncoder(capacity=2)
    first = point(1)
    text = encoder.encode(first)
    for seq in range(2, 2000):
        # Each may get the address of one that is gone.
        assert json.loads(encoder.encode(point(seq)))["seq"] == seq
    assert encoder.encode(first) == text
    assert encoder.encode(first) is not text
