"""Calibrated int8 for the OpenVINO runtime.

Post-training quantisation by NNCF: weights per channel, activations by the ranges they take on
real speech. Only the context stage is quantised. It is where the time goes once local features
are kept, and the extractor, whose inputs span tens of decibels, loses most by it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ser_engine.audio_files import read_audio
from ser_engine.errors import AudioError, ConfigError, RuntimeUnavailableError
from ser_engine.features.normalisation import normalisation_of
from ser_engine.models.emotion2vec import Emotion2vec
from ser_engine.runtimes.openvino_runtime import convert
from ser_engine.types import FloatArray

__all__ = ["calibrate"]

_WINDOWS = 48
"""Windows of speech the ranges are taken from; twice as many moved no posterior by 1e-3."""

_QUIETEST_RMS = 1e-4
"""Windows below this level (-80 dBFS) hold no speech worth calibrating on."""

_SUFFIXES = frozenset({".wav", ".flac", ".ogg", ".opus", ".mp3"})

_log = logging.getLogger(__name__)


def calibrate(model: Emotion2vec, speech_dir: Path, window_samples: int) -> tuple[Any, Any]:
    """Return the local stage in fp32 and the context stage in int8.

    Args:
        model: the network in float32.
        speech_dir: folder with recordings of speech, searched to any depth.
        window_samples: length of the windows the network will be used with.

    Raises:
        RuntimeUnavailableError: NNCF is not installed.
        ConfigError: the folder has no speech that can be read.
    """
    try:
        import nncf
    except ImportError as error:
        raise RuntimeUnavailableError(
            "calibrating openvino-int8 needs the package nncf; install it by"
            " pip install 'emotion-monitor[openvino]'"
        ) from error
    features = [
        _features(model, window)
        for window, _ in zip(_windows(speech_dir, window_samples), range(_WINDOWS), strict=False)
    ]
    if not features:
        raise ConfigError(
            f"got model.calibration_dir {speech_dir}, in which no recording of at least"
            f" {window_samples / 16000:g} s could be read; expected a folder of speech"
        )
    _log.info("calibrating int8 on %d windows of speech", len(features))
    local, context = convert(model)
    # Quantisation follows the shape it sees; length and batch become free again afterwards.
    quantised = nncf.quantize(
        context,
        nncf.Dataset(features),
        subset_size=len(features),
        model_type=nncf.ModelType.TRANSFORMER,
    )
    return local, quantised


@torch.inference_mode()
def _features(model: Emotion2vec, window: FloatArray) -> FloatArray:
    samples = torch.from_numpy(window)
    normalised = normalisation_of(samples, model.sizes.normalize).apply(samples)
    features: FloatArray = model.local(normalised[None]).numpy()
    return features


def _windows(speech_dir: Path, window_samples: int) -> Iterator[FloatArray]:
    """Yield windows of speech; recordings are joined end to end, each used once."""
    joined = np.zeros(0, dtype=np.float32)
    paths = sorted(path for path in speech_dir.rglob("*") if path.suffix.lower() in _SUFFIXES)
    # A fixed shuffle: recordings of one speaker or one emotion often lie side by side.
    order = np.random.default_rng(0).permutation(len(paths))
    for index in order:
        try:
            channel = read_audio(paths[index])[0]
        except AudioError as error:
            _log.warning("not used for calibration: %s", error)
            continue
        joined = np.concatenate([joined, channel])
        while len(joined) >= window_samples:
            window, joined = joined[:window_samples], joined[window_samples:]
            if np.sqrt(np.mean(window**2)) > _QUIETEST_RMS:
                yield np.ascontiguousarray(window)
