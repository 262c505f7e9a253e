from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ser_engine.core.runtimes.onnx_runtime import export_whole
from ser_engine.types import Window, WindowResult
from tests.support.networks import engine, load, network, noise, posteriors


@pytest.fixture(scope="module")
def session(tiny_checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ONNX Runtime with the exported network. Needs ``onnx`` and ``onnxruntime``."""
    import onnxruntime

    path = tmp_path_factory.mktemp("onnx") / "emotion2vec.onnx"
    export_whole(network(tiny_checkpoint_dir), load(tiny_checkpoint_dir).info, path)
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.needs("onnx", "onnxruntime")
def test_the_whole_network_is_one_graph_of_any_batch_and_length(
    tiny_checkpoint_dir: Path, session: Any
) -> None:
    core = engine(tiny_checkpoint_dir)
    for batch, length in ((1, 400), (3, 8_000), (2, 64_000)):
        rows = [noise(length, seed) + 0.05 for seed in range(batch)]
        embeddings, logits = session.run(None, {"samples": np.stack(rows)})
        for row, its_embeddings, its_logits in zip(rows, embeddings, logits, strict=True):
            (ours,) = core.step([Window(row)])
            assert isinstance(ours, WindowResult)
            np.testing.assert_allclose(its_logits, ours.logits, atol=1e-4)
            np.testing.assert_allclose(its_embeddings, ours.embeddings, atol=1e-4)
            scores = np.exp(its_logits.mean(0)) / np.exp(its_logits.mean(0)).sum()
            np.testing.assert_allclose(scores, posteriors(ours), atol=1e-5)


@pytest.mark.needs("onnx", "onnxruntime")
def test_the_file_says_what_it_is(tiny_checkpoint_dir: Path, session: Any) -> None:
    info = load(tiny_checkpoint_dir).info

    facts = session.get_modelmeta().custom_metadata_map

    assert facts["licence"] == info.licence
    assert facts["sha256"] == info.sha256
    assert json.loads(facts["labels"]) == list(info.labels.names)
