from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ser_engine.files.cache import DamagedDataError, pack, unpack
from ser_engine.schema import Point


@dataclass(frozen=True, eq=False)
class Leaf:
    values: npt.NDArray[Any]
    level: float = 0.0


@dataclass(frozen=True, eq=False)
class Tree:
    name: str
    leaves: tuple[Leaf, ...] = ()
    note: str | None = None
    shares: dict[str, float] = field(default_factory=dict)


CLASSES = {"Leaf": Leaf, "Tree": Tree}


def test_a_round_trip_is_exact():
    values = [
        np.array([0.1, -np.inf, np.nan], dtype=np.float32),
        np.array([[1 / 3]]),
        np.empty((0, 768), dtype=np.float32),
        np.array([2**62]),
    ]
    tree = Tree("生气 <&>", tuple(Leaf(each, -np.inf) for each in values), None, {"a": 0.1})
    again = unpack(pack(tree), CLASSES)
    assert (again.name, again.note, again.shares) == ("生气 <&>", None, {"a": 0.1})
    assert isinstance(again.leaves, tuple)
    for leaf, expected in zip(again.leaves, values, strict=True):
        np.testing.assert_array_equal(leaf.values, expected)
        assert leaf.values.dtype == expected.dtype
        assert leaf.level == -np.inf


def test_numbers_of_numpy_are_numbers():
    assert unpack(pack(Leaf(np.zeros(1), np.float64(0.1))), CLASSES).level == 0.1


def test_a_field_of_a_message_that_is_not_set_stays_so():
    point = Point(
        start_sample=0,
        end_sample=320,
        posteriors=(1.0,),
        label="angry",
        confidence=1.0,
        speech_share=1.0,
        provisional=False,
        widened=False,
    )
    assert point.speaker is msgspec.UNSET
    assert unpack(pack(point), {"Point": Point}) == point


@pytest.mark.parametrize("value", [object(), {1, 2}, np.array([object()])])
def test_what_is_no_plain_data_is_refused(value: object):
    with pytest.raises(TypeError, match="expected"):
        pack(Leaf(value))  # type: ignore[arg-type]


def test_only_named_classes_are_made():
    with pytest.raises(DamagedDataError):
        unpack(pack(Tree("a")), {"Leaf": Leaf})


def test_other_fields_are_noticed():
    @dataclass(frozen=True)
    class Other:
        title: str

    with pytest.raises(DamagedDataError):
        unpack(pack(Tree("a")), {"Tree": Other})
    assert {each.name for each in fields(Other)} == {"title"}


def test_pickled_data_are_not_read():
    import io

    file = io.BytesIO()
    np.savez(file, document=np.array([{"$class": "Leaf"}], dtype=object))
    with pytest.raises(DamagedDataError):
        unpack(file.getvalue(), CLASSES)


def test_deep_documents_are_refused():
    import io

    text = ("[" * 100_000 + "]" * 100_000).encode()
    file = io.BytesIO()
    np.savez(file, document=np.frombuffer(text, np.uint8))
    with pytest.raises(DamagedDataError):
        unpack(file.getvalue(), CLASSES)


@given(cut=st.integers(0, 10_000))
def test_data_that_are_cut_off_are_noticed(cut: int):
    whole = pack(Tree("a", (Leaf(np.arange(50)),)))
    with pytest.raises(DamagedDataError):
        unpack(whole[: cut % len(whole)], CLASSES)


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_an_altered_bit_is_noticed_or_changes_nothing(at: int, bit: int):
    leaf = Leaf(np.arange(50), 0.25)
    data = bytearray(pack(leaf))
    data[at % len(data)] ^= 1 << bit
    try:
        again = unpack(bytes(data), CLASSES)
    except DamagedDataError:
        return
    np.testing.assert_array_equal(again.values, leaf.values)
    assert again.level == leaf.level


@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes):
    with pytest.raises(DamagedDataError):
        unpack(data, CLASSES)


def test_the_document_is_json():
    import io

    with np.load(io.BytesIO(pack(Tree("a")))) as file:
        assert json.loads(file["document"].tobytes())["name"] == "a"
