"""A folder of FunASR's cam++ with random weights: it loads and runs, and tells nobody apart."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

__all__ = ["make_campplus_folder"]


def make_campplus_folder(folder: Path) -> Path:
    """Write the files the published folder has."""
    import torch
    from funasr.models.campplus.model import CAMPPlus

    folder.mkdir(parents=True)
    shape = {"feat_dim": 80, "embedding_size": 192}
    config = {"model": "CAMPPlus", "model_conf": shape, "frontend": "WavFrontend"}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    files = {"init_param": "campplus_cn_common.bin", "config": "config.yaml"}
    entry = {"framework": "pytorch", "model": {"type": "funasr"}, "file_path_metas": files}
    (folder / "configuration.json").write_text(json.dumps(entry))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(CAMPPlus(**shape).state_dict(), folder / files["init_param"])
    return folder
