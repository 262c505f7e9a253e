from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ser_engine.core.features import FeatureExtractor, FeatureRequest
from ser_engine.core.runtimes.torch_runtime import TorchRuntime
from ser_engine.models.compact import COMPACT
from ser_engine.models.emotion2vec import Emotion2vec
from ser_engine.models.model import Network
from tests.support.networks import network, noise

WINDOW, STEP = 64_000, 8_000


@pytest.fixture(scope="module")
def model(tiny_checkpoint_dir: Path) -> Emotion2vec:
    return network(tiny_checkpoint_dir)


def extractor(
    model: Network, tolerance: float | None = 0.05, max_bytes: int = 1 << 30
) -> FeatureExtractor:
    return FeatureExtractor(
        runtime=TorchRuntime(model),
        layer=model.first_layer(),
        feature_dim=model.feature_dim,
        tolerance=tolerance,
        buckets=(5, 25, 199),
        max_bytes=max_bytes,
    )


def request(samples: np.ndarray, start: int, key: str | None = "a") -> FeatureRequest:
    return FeatureRequest(samples, start, (key, 0) if key else None)


def slide(made: FeatureExtractor, stream: np.ndarray, key: str | None = "a") -> list[Tensor]:
    """The features of every window of a stream."""
    ends = range(WINDOW, len(stream) + 1, STEP)
    return [
        made.extract([request(stream[end - WINDOW : end], end - WINDOW, key)])[0] for end in ends
    ]


def test_a_window_that_follows_computes_its_new_frames_only(model: Emotion2vec) -> None:
    made = extractor(model)

    slide(made, noise(WINDOW + 3 * STEP))

    assert made.stats.computed == 199 + 3 * 25
    assert made.stats.refreshed == 0
    assert made.stats.reused == 3 * 174


def test_kept_features_are_as_good_as_new_ones(model: Emotion2vec) -> None:
    stream = noise(WINDOW + 4 * STEP)

    kept = slide(extractor(model), stream)
    new = slide(extractor(model, tolerance=None), stream)

    for ours, exact in zip(kept, new, strict=True):
        assert (ours - exact).norm() / exact.norm() < 0.02


@torch.inference_mode()
def test_a_network_without_normalisation_takes_samples_as_they_are() -> None:
    compact = COMPACT.read().build()
    stream = noise(WINDOW + 3 * STEP) + np.float32(0.3)
    made = extractor(compact)

    for number, ours in enumerate(slide(made, stream)):
        window = stream[number * STEP : number * STEP + WINDOW]
        exact = compact.local(torch.from_numpy(window)[None])[0]
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=1e-5)
    assert (made.stats.computed, made.stats.reused) == (199 + 3 * 25, 3 * 174)


def test_what_a_failed_pass_left_out_is_computed_by_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = extractor(COMPACT.read().build())
    runtime, stream = made._runtime, noise(WINDOW)
    local = runtime.local

    def fail(samples: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(runtime, "local", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        made.extract([request(stream, 0)])
    monkeypatch.setattr(runtime, "local", local)

    (again,) = made.extract([request(stream, 0)])
    (alone,) = made.extract([request(stream, 0, key=None)])
    torch.testing.assert_close(again, alone)


def test_tolerance_nothing_is_exact(model: Emotion2vec) -> None:
    stream = np.concatenate([noise(WINDOW), noise(4 * STEP, seed=1, level=1e-4)])

    for ours, exact in zip(
        slide(extractor(model, tolerance=0.0), stream),
        slide(extractor(model, tolerance=None), stream),
        strict=True,
    ):
        torch.testing.assert_close(ours, exact, atol=1e-5, rtol=0)


def test_pauses_are_computed_again_when_speech_moves_the_normalisation(model: Emotion2vec) -> None:
    pause, speech = noise(WINDOW, level=3e-5), noise(2 * STEP, seed=1, level=0.1)
    made = extractor(model)

    kept = slide(made, np.concatenate([pause, speech]))

    assert made.stats.refreshed > 100
    new = slide(extractor(model, tolerance=None), np.concatenate([pause, speech]))
    for ours, exact in zip(kept, new, strict=True):
        assert (ours - exact).norm() / exact.norm() < 0.05


def test_other_audio_under_the_same_key_is_noticed(model: Emotion2vec) -> None:
    made = extractor(model)
    made.extract([request(noise(WINDOW), 0)])

    (features,) = made.extract([request(noise(WINDOW, seed=1), STEP)])

    (exact,) = extractor(model, None).extract([request(noise(WINDOW, seed=1), STEP)])
    torch.testing.assert_close(features, exact)
    assert made.stats.reused == 0


@pytest.mark.parametrize("start", [-STEP, 100, WINDOW])
def test_windows_that_share_no_frames_share_nothing(model: Emotion2vec, start: int) -> None:
    made = extractor(model)
    stream = np.zeros(WINDOW, dtype=np.float32) + 0.1
    made.extract([request(stream, 0)])

    made.extract([request(stream, start)])

    assert made.stats.reused == 0


def test_streams_do_not_mix(model: Emotion2vec) -> None:
    made = extractor(model)
    first, second = noise(WINDOW + STEP), noise(WINDOW + STEP, seed=1)
    made.extract([request(first[:WINDOW], 0, "a"), request(second[:WINDOW], 0, "b")])

    together = made.extract([request(first[STEP:], STEP, "a"), request(second[STEP:], STEP, "b")])

    for ours, stream in zip(together, (first, second), strict=True):
        alone = slide(extractor(model), stream)[-1]
        torch.testing.assert_close(ours, alone, atol=1e-5, rtol=0)


def test_windows_without_a_key_are_not_kept(model: Emotion2vec) -> None:
    made = extractor(model)

    slide(made, noise(WINDOW + STEP), key=None)

    assert made.stats.computed == 2 * 199


def test_a_stream_that_is_forgotten_starts_anew(model: Emotion2vec) -> None:
    made = extractor(model)
    made.extract([request(noise(WINDOW + STEP)[:WINDOW], 0)])

    made.forget("a")
    made.extract([request(noise(WINDOW + STEP)[STEP:], STEP)])

    assert made.stats.reused == 0


def test_memory_is_bounded_and_the_stream_used_longest_ago_goes_first(model: Emotion2vec) -> None:
    room_for_two = 2 * (800 * 8 + 199 * (64 * 4 + 16))
    made = extractor(model, max_bytes=room_for_two)
    streams = {key: noise(WINDOW + STEP, seed=ord(key)) for key in "abc"}
    for key, stream in streams.items():
        made.extract([request(stream[:WINDOW], 0, key)])

    for key in "bc":
        made.extract([request(streams[key][STEP:], STEP, key)])
    assert made.stats.reused == 2 * 174
    made.extract([request(streams["a"][STEP:], STEP, "a")])

    assert made.stats.reused == 2 * 174


@pytest.mark.parametrize("num_samples", [400, 1_999, 8_000, 64_000, 200_000])
def test_any_length_is_covered_by_pieces(model: Emotion2vec, num_samples: int) -> None:
    samples = noise(num_samples)

    (features,) = extractor(model).extract([request(samples, 0)])

    wide = torch.from_numpy(samples)
    (exact,) = model.local(torch.nn.functional.layer_norm(wide, wide.shape)[None])
    torch.testing.assert_close(features, exact, atol=1e-4, rtol=1e-4)
