from __future__ import annotations

import pytest
from multidict import MultiDict
from yarl import URL

from stream_server.feeds import MAX_AFTER, FeedQuery, parse_event_id, parse_query
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.feed_messages import RESULT_TYPES


def parse(query: str, last_event_id: str | None = None) -> FeedQuery:
    return parse_query(URL(f"http://localhost/feed?{query}").query, last_event_id)


def test_nothing_asked_for_is_everything_from_now():
    query = parse("")
    assert query == FeedQuery()
    assert query.types == set(RESULT_TYPES)
    assert query.catches_up_on == frozenset()


def test_lists_with_commas_or_repeated():
    query = parse("types=point,alert&types=gap&roles=customer,%20driver,")
    assert query.types == {"point", "alert", "gap"}
    assert query.roles == {"customer", "driver"}


def test_one_stream_from_a_time():
    query = parse("stream=a-1&from_s=12.5&frames=true")
    assert (query.stream_id, query.from_sample, query.frames) == ("a-1", 200_000, True)
    assert query.catches_up_on == {"a-1"}


def test_after_results_of_several_streams():
    query = parse("after=a:7&after=b:-1")
    assert query.after == {"a": 7, "b": -1}
    assert query.catches_up_on == {"a", "b"}


def test_an_event_source_that_comes_back_goes_on_where_it_was():
    query = parse("stream=a&from_s=3", "a:9")
    assert query.after == {"a": 9}
    assert query.from_sample is None
    assert parse("after=a:2", "a:9").after == {"a": 9}


def test_the_id_of_an_event():
    assert parse_event_id("a:b:12") == ("a:b", 12)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("steam=a", "steam"),
        ("types=points", "points"),
        ("from_s=1", "clock"),
        ("stream=a&from_s=-1", "from_s '-1'"),
        ("stream=a&from_s=nan", "nan"),
        ("stream=a&from_s=inf", "inf"),
        ("stream=a&from_s=1e300", "1e300"),
        ("stream=a&from_s=soon", "soon"),
        ("stream=a&stream=b", "2 times"),
        ("stream=", "id of a stream"),
        ("stream=a/b", "a/b"),
        ("stream=" + "a" * 300, "aaa"),
        ("after=a", "STREAM:SEQ"),
        ("after=a:x", "a:x"),
        ("after=a:-2", "a:-2"),
        ("after=:1", "STREAM:SEQ"),
        ("stream=a&after=b:1", "another stream"),
        ("frames=yes", "true or false"),
        ("roles=a%20b", "a b"),
        ("&".join(f"after=a{number}:1" for number in range(MAX_AFTER + 1)), "values"),
    ],
)
def test_what_cannot_be_is_refused(query: str, told: str):
    with pytest.raises(ProtocolError) as caught:
        parse(query)
    assert caught.value.code is ErrorCode.BAD_QUERY
    assert told in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_wrong_event_id_is_refused():
    with pytest.raises(ProtocolError):
        parse_query(MultiDict(), "nonsense")
