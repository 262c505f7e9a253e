"""Write ser_engine/timeline/silero.npz from the weights in the package silero-vad.

Run it after an update of that package (extra ``dev``; ``onnx`` reads it):
``python scripts/silero_weights.py``. A test compares the two networks.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np

_SOURCE = "data/silero_vad_16k_op15.onnx"
_TARGET = Path(__file__).parents[1] / "ser_engine" / "timeline" / "silero.npz"
_NAMES = {
    **{
        f"model.encoder.{index}.reparam_conv.{kind}": f"conv{index + 1}_{kind}"
        for index in range(4)
        for kind in ("weight", "bias")
    },
    **{
        f"model.decoder.rnn.{kind}_{of}": f"lstm_{kind}_{of}"
        for kind in ("weight", "bias")
        for of in ("ih", "hh")
    },
    "model.decoder.decoder.2.weight": "output_weight",
    "model.decoder.decoder.2.bias": "output_bias",
}


def main() -> None:
    """Write the file; the basis of the transform is left out, for it is a windowed DFT."""
    import onnx

    package = importlib.util.find_spec("silero_vad")
    if package is None or not package.submodule_search_locations:
        raise SystemExit("silero-vad is not installed; run pip install 'emotion-monitor[dev,onnx]'")
    model = onnx.load(Path(package.submodule_search_locations[0]) / _SOURCE)
    tensors = {each.name: onnx.numpy_helper.to_array(each) for each in model.graph.initializer}
    weights: dict[str, Any] = {ours: tensors[theirs] for theirs, ours in _NAMES.items()}
    np.savez(_TARGET, **weights)
    print(f"{_TARGET}: {_TARGET.stat().st_size} bytes")


if __name__ == "__main__":
    main()
