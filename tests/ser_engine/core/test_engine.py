from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ser_engine.core.engine import EngineCore
from ser_engine.errors import EngineDeadError, WindowError
from ser_engine.models.model import FrameOutputs
from ser_engine.types import Window, WindowResult
from tests.support.networks import engine, noise


def scored(result: WindowResult | WindowError) -> WindowResult:
    assert isinstance(result, WindowResult), result
    return result


@pytest.fixture(scope="module")
def cores(tiny_checkpoint_dir: Path) -> dict[bool, EngineCore]:
    """What computes the features of every window anew (True), and what keeps those of a stream.

    For windows of no stream, which leave nothing behind.
    """
    return {exact: engine(tiny_checkpoint_dir, exact=exact) for exact in (True, False)}


def test_frames_logits_and_embeddings(cores: dict[bool, EngineCore]) -> None:
    (result,) = cores[True].step([Window(noise(64_000))])

    assert scored(result).logits.shape == (199, 9)
    assert scored(result).embeddings.shape == (199, 64)
    assert scored(result).logits.dtype == scored(result).embeddings.dtype == np.float32
    assert scored(result).hop_samples == 320


@settings(max_examples=10)
@given(lengths=st.lists(st.integers(400, 30_000), min_size=2, max_size=5), exact=st.booleans())
def test_a_window_in_a_batch_equals_that_window_alone(
    cores: dict[bool, EngineCore], lengths: list[int], exact: bool
) -> None:
    core = cores[exact]
    windows = [Window(noise(length, seed)) for seed, length in enumerate(lengths)]

    together = core.step(windows)

    for window, result in zip(windows, together, strict=True):
        alone = scored(core.step([window])[0])
        np.testing.assert_allclose(scored(result).logits, alone.logits, atol=2e-5)
        np.testing.assert_allclose(scored(result).embeddings, alone.embeddings, atol=2e-5)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.full(64_000, np.nan, np.float32), "NaN or infinite"),
        (np.full(64_000, np.inf, np.float32), "NaN or infinite"),
        (np.zeros(399, np.float32), "got a window of 399 samples"),
        (np.zeros(64_000, np.int16), "got samples of type int16"),
        (np.zeros((64_000, 2), np.float32), "shape (64000, 2)"),
    ],
)
def test_a_bad_window_fails_alone(
    cores: dict[bool, EngineCore], samples: np.ndarray, message: str
) -> None:
    core = cores[True]
    good = Window(noise(64_000))

    before, bad, after = core.step([good, Window(samples), good])

    assert isinstance(bad, WindowError)
    assert message in str(bad)
    np.testing.assert_array_equal(scored(before).logits, scored(after).logits)


def test_silence_is_scored_like_any_audio(cores: dict[bool, EngineCore]) -> None:
    (result,) = cores[True].step([Window(np.zeros(64_000, np.float32))])

    assert np.isfinite(scored(result).logits).all()


class _FailsOn:
    """A runtime that cannot score rows of one length, alone or in company."""

    def __init__(self, inner: object, frames: int) -> None:
        self._inner, self._frames = inner, frames

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        if any(len(row) == self._frames for row in rows):
            raise RuntimeError("out of memory")
        return self._inner.context(rows)  # type: ignore[attr-defined, no-any-return]


def test_where_a_batch_fails_only_the_guilty_window_does(
    tiny_checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = engine(tiny_checkpoint_dir)
    monkeypatch.setattr(core, "_runtime", _FailsOn(core._runtime, frames=24))

    results = core.step([Window(noise(64_000)), Window(noise(8_000)), Window(noise(16_000))])

    assert [type(result) for result in results] == [WindowResult, WindowError, WindowResult]
    assert "out of memory" in str(results[1])


def test_a_lost_accelerator_is_no_fault_of_a_window(
    tiny_checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = engine(tiny_checkpoint_dir)

    def fail(rows: Sequence[Tensor]) -> list[FrameOutputs]:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700)

    monkeypatch.setattr(core._runtime, "context", fail)

    with pytest.raises(EngineDeadError, match="illegal memory access"):
        core.step([Window(noise(8_000))])


class _Poisons:
    """A runtime whose logits for the first row are not numbers."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def context(self, rows: Sequence[Tensor]) -> list[FrameOutputs]:
        outputs = self._inner.context(rows)  # type: ignore[attr-defined]
        first = outputs[0]
        return [FrameOutputs(first.embeddings, torch.full_like(first.logits, np.nan)), *outputs[1:]]


def test_logits_that_are_not_numbers_are_an_error(
    tiny_checkpoint_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    core = engine(tiny_checkpoint_dir)
    monkeypatch.setattr(core, "_runtime", _Poisons(core._runtime))

    results = core.step([Window(noise(8_000)), Window(noise(8_000))])

    assert [type(result) for result in results] == [WindowError, WindowResult]


def test_no_windows_no_results(cores: dict[bool, EngineCore]) -> None:
    assert cores[True].step([]) == []


@pytest.mark.parametrize("num_samples", [400, 559, 560, 64_000])
def test_a_10_ms_timeline_interleaves_a_pass_shifted_by_160_samples(
    cores: dict[bool, EngineCore], num_samples: int
) -> None:
    native = cores[True]
    samples = noise(num_samples)

    (result,) = native.step([Window(samples, hop_samples=160)])

    assert scored(result).hop_samples == 160
    assert len(scored(result).logits) == (num_samples - 400) // 160 + 1
    (even,) = native.step([Window(samples)])
    np.testing.assert_allclose(scored(result).logits[0::2], scored(even).logits, atol=1e-5)
    if num_samples >= 560:
        (odd,) = native.step([Window(samples[160:])])
        np.testing.assert_allclose(scored(result).logits[1::2], scored(odd).logits, atol=1e-5)


def test_a_10_ms_timeline_keeps_features_of_both_passes(tiny_checkpoint_dir: Path) -> None:
    core = engine(tiny_checkpoint_dir, exact=False)
    stream = noise(72_000)

    core.step([Window(stream[:64_000], 0, "a", 160)])
    core.step([Window(stream[8_000:], 8_000, "a", 160)])

    assert core.extractor.stats.reused == 2 * 174


def test_results_outlive_the_next_step(tiny_checkpoint_dir: Path) -> None:
    core = engine(tiny_checkpoint_dir, exact=False)
    stream = noise(72_000)
    first = scored(core.step([Window(stream[:64_000], 0, "a")])[0])
    logits, embeddings = first.logits.copy(), first.embeddings.copy()

    core.step([Window(stream[8_000:], 8_000, "a")])

    np.testing.assert_array_equal(first.logits, logits)
    np.testing.assert_array_equal(first.embeddings, embeddings)


def test_a_caller_may_reuse_the_array_it_gave(tiny_checkpoint_dir: Path) -> None:
    core = engine(tiny_checkpoint_dir, exact=False)
    stream, buffer = noise(72_000), np.empty(64_000, np.float32)
    results = []
    for start in (0, 8_000):
        buffer[:] = stream[start : start + 64_000]
        results.append(scored(core.step([Window(buffer, start, "a")])[0]))

    fresh = engine(tiny_checkpoint_dir, exact=False)
    for start, result in zip((0, 8_000), results, strict=True):
        window = Window(stream[start : start + 64_000].copy(), start, "a")
        np.testing.assert_array_equal(scored(fresh.step([window])[0]).logits, result.logits)


def test_warm_up_leaves_no_trace(tiny_checkpoint_dir: Path) -> None:
    core = engine(tiny_checkpoint_dir, exact=False)

    core.warm_up()

    assert core.extractor.stats.computed == 0
