from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from emotion_monitor import main
from ser_engine.types import Window, WindowResult
from tests.requirements import REPOSITORY
from tests.support.networks import engine, load, noise, posteriors


@pytest.fixture(scope="module")
def session(tiny_checkpoint_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """ONNX Runtime with the exported network. Needs ``onnx`` and ``onnxruntime``.

    Exported once, by the command: tracing the network takes as long as all tests here.
    """
    import onnxruntime

    folder = tmp_path_factory.mktemp("onnx")
    path, models_dir = folder / "emotion2vec.onnx", f"ser_engine.model.models_dir={folder}"
    output, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(errors),
        pytest.raises(SystemExit) as caught,
    ):
        main(["--set", models_dir, "export", str(path), "--model", str(tiny_checkpoint_dir)])
    assert not caught.value.code
    assert output.getvalue().splitlines()[-1] == str(path)
    assert "model: emotion2vec_tiny" in errors.getvalue()
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
def test_the_program_of_the_page_reads_it(session: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (REPOSITORY / "docs" / "how-to" / "runtimes.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    monkeypatch.setattr("onnxruntime.InferenceSession", lambda path: session)
    names: dict[str, Any] = {"samples": noise(8_000, 0)}

    exec(program, names)

    assert len(names["scores"]) == len(names["labels"])
    assert names["scores"].sum() == pytest.approx(1)


@pytest.mark.needs("onnx", "onnxruntime")
def test_the_file_says_what_it_is(tiny_checkpoint_dir: Path, session: Any) -> None:
    info = load(tiny_checkpoint_dir).info

    facts = session.get_modelmeta().custom_metadata_map

    assert facts["licence"] == info.licence
    assert facts["sha256"] == info.sha256
    assert json.loads(facts["labels"]) == list(info.labels.names)
