"""Metadata that nobody can be told to shorten."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stream_server.protocol.call_metadata import call_metadata, clean_text
from stream_server.protocol.client_messages import Start
from stream_server.protocol.start_check import (
    MAX_METADATA_ENTRIES,
    MAX_TEXT_LENGTH,
    check_start,
)


def test_texts_numbers_and_truth_are_kept():
    said = {"a": "x", "b": 7, "c": 0.5, "d": True, "e": None, "f": [1], "g": {"h": 1}, "i": ""}
    assert call_metadata(said) == {"a": "x", "b": "7", "c": "0.5", "d": "true"}


def test_the_length_is_cut_and_control_characters_go():
    assert clean_text("a\r\nb\x7f\ud800c" + "d" * 300) == ("abc" + "d" * 300)[:MAX_TEXT_LENGTH]
    assert call_metadata({"\x00": "x", "n": 1 << 5000}) == {}


@given(
    st.dictionaries(
        st.text(max_size=600),
        st.one_of(st.text(max_size=600), st.integers(), st.floats(), st.booleans(), st.none()),
        max_size=2 * MAX_METADATA_ENTRIES,
    )
)
def test_what_comes_out_is_what_a_stream_may_have(said: dict[str, object]) -> None:
    metadata = call_metadata(said)
    start = Start(encoding="mulaw", sample_rate=8000, metadata=metadata)
    assert check_start(start).metadata == metadata
