from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ser_engine.errors import CheckpointError, RuntimeUnavailableError
from tests.support.campplus import make_campplus_folder

if TYPE_CHECKING:
    from ser_engine.speakers.campplus import CamPlusPlus


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CamPlusPlus:
    from ser_engine.speakers.campplus import CamPlusPlus

    return CamPlusPlus(str(make_campplus_folder(tmp_path_factory.mktemp("speakers") / "cam")))


@pytest.mark.needs("funasr", "kaldi-native-fbank")
def test_a_voice_is_a_vector_of_length_one(model: CamPlusPlus) -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 24_000).astype(np.float32)
    first, second = model.embed([noise, noise[:8_000]])
    assert first.shape == second.shape == (192,)
    assert first.dtype == np.float32
    assert np.linalg.norm(first) == pytest.approx(1, abs=1e-5)
    (again,) = model.embed([noise])
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.needs("funasr", "kaldi-native-fbank")
def test_pieces_do_not_touch_one_another(model: CamPlusPlus) -> None:
    loud, quiet = (np.full(16_000, level, np.float32) * _tone() for level in (0.9, 0.01))
    together = model.embed([loud, quiet])
    np.testing.assert_allclose(together[1], model.embed([quiet])[0], atol=1e-6)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    from ser_engine.speakers.campplus import CamPlusPlus

    with pytest.raises(CheckpointError, match=r"without config.yaml and configuration.json"):
        CamPlusPlus(str(tmp_path))
    (tmp_path / "config.yaml").touch()
    (tmp_path / "configuration.json").write_text('{"file_path_metas": {"init_param": "w.bin"}}')
    # FunASR itself would go on with random weights.
    with pytest.raises(CheckpointError, match=r"without w.bin"):
        CamPlusPlus(str(tmp_path))


def test_offline_asks_no_hub() -> None:
    from ser_engine.speakers.campplus import CamPlusPlus

    with pytest.raises(CheckpointError, match="for no hub is asked"):
        CamPlusPlus("cam++", offline=True)
    with pytest.raises(CheckpointError, match="expected a folder of FunASR's cam"):
        CamPlusPlus("somebody/else")


@pytest.mark.needs("funasr", "kaldi-native-fbank")
def test_weights_that_do_not_load_are_refused(tmp_path: Path) -> None:
    from ser_engine.speakers.campplus import CamPlusPlus

    folder = make_campplus_folder(tmp_path / "cam")
    (folder / "campplus_cn_common.bin").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match="got no speaker model from"):
        CamPlusPlus(str(folder))


def test_without_its_packages_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ser_engine.speakers.campplus import CamPlusPlus

    (tmp_path / "config.yaml").touch()
    (tmp_path / "configuration.json").write_text(
        '{"file_path_metas": {"init_param": "config.yaml"}}'
    )
    monkeypatch.setitem(sys.modules, "kaldi_native_fbank", None)
    with pytest.raises(RuntimeUnavailableError, match=r"emotion-monitor\[speakers\]"):
        CamPlusPlus(str(tmp_path))


def _tone() -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return np.sin(np.arange(16_000) / 10).astype(np.float32)
