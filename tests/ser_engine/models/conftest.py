from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.random_checkpoint import write_random_checkpoint


@pytest.fixture(scope="session")
def _published_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random_checkpoint(
        tmp_path_factory.mktemp("published") / "emotion2vec_plus_base",
        prefix="d2v_model.",
        with_decoder=True,
        optimiser_state=True,
    )


@pytest.fixture
def published(_published_once: Path, tmp_path: Path) -> Path:
    """A published folder of a test's own, named emotion2vec_plus_base."""
    return shutil.copytree(_published_once, tmp_path / "emotion2vec_plus_base")
