from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream_server.platforms.media_stream import call_spec, roles_of
from stream_server.wire.audio_format import AudioFormat
from stream_server.wire.errors import ErrorCode, ProtocolError
from stream_server.wire.start import MAX_METADATA_ENTRIES, MAX_TEXT_LENGTH, StreamSpec

FORMAT = AudioFormat("mulaw", 8000)


def spec_of(details: dict[Any, Any], name: str = "CA1", *roles: str) -> StreamSpec:
    return call_spec(FORMAT, roles or ("customer",), name=name, details=details)


def test_a_call_is_live_and_is_sent_nothing():
    spec = spec_of({"queue": "billing"})
    assert (spec.name, spec.metadata) == ("CA1", {"queue": "billing"})
    assert (spec.format, spec.wants, spec.live, spec.token) == (FORMAT, frozenset(), True, "")


def test_a_stream_without_a_name_is_called_by_the_id_of_its_call():
    spec = call_spec(FORMAT, ("customer",), call_id="CA1", details={})
    assert (spec.name, spec.call_id) == ("CA1", "CA1")
    spec = call_spec(FORMAT, ("customer",), name="Hotline", call_id="CA1", details={})
    assert (spec.name, spec.call_id) == ("Hotline", "CA1")


def test_what_does_not_fit_is_cut():
    spec = spec_of({"a": "x" * 1000, "b" * 1000: "y"}, "n" * 1000)
    assert {len(value) for value in spec.metadata.values()} == {MAX_TEXT_LENGTH, 1}
    assert max(map(len, spec.metadata)) == len(spec.name) == MAX_TEXT_LENGTH


def test_the_most_important_comes_first():
    spec = spec_of({str(number): "x" for number in range(100)})
    assert list(spec.metadata) == [str(number) for number in range(MAX_METADATA_ENTRIES)]


def test_only_values_that_are_text_or_nearly():
    details: dict[str, Any] = {
        "a": 1,
        "b": 2.5,
        "c": True,
        "d": False,
        "e": None,
        "f": [],
        "g": {},
        "h": "",
        "": 1,
    }
    spec = spec_of({**details, "i": 10**5000})
    assert spec.metadata == {"a": "1", "b": "2.5", "c": "true", "d": "false"}


def test_control_characters_become_spaces():
    assert spec_of({"a\n": "b\x00c\ud800"}).metadata == {"a ": "b c "}


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())


@given(st.dictionaries(st.text(), VALUES), st.text())
def test_no_call_is_refused_for_its_parameters(details: dict[str, Any], name: str):
    spec = spec_of(details, name)
    assert len(spec.metadata) <= MAX_METADATA_ENTRIES


def test_a_wrong_role_is():
    with pytest.raises(ProtocolError) as caught:
        spec_of({}, "", "No Role")
    assert caught.value.code is ErrorCode.BAD_START


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, ("customer", "agent")),
        ({"roles": "agent;customer;third"}, ("agent", "customer")),
        ({"roles": "agent"}, ("agent", "customer")),
        ({"roles": "caller"}, ("caller", "customer")),
        ({"roles": 7}, ("7", "customer")),
        ({"roles": " "}, ("customer", "agent")),
    ],
)
def test_roles(parameters: dict[str, Any], expected: tuple[str, str]):
    assert roles_of(parameters, ("customer", "agent")) == expected
