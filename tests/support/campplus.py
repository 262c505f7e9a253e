"""CAM++ with random weights: it loads and runs, and tells nobody apart."""

from __future__ import annotations

from pathlib import Path

__all__ = ["make_campplus_folder"]


def make_campplus_folder(folder: Path) -> Path:
    """Write a folder that holds the weights as they are published."""
    import torch

    from ser_engine.speakers.network import CamPlusPlusNetwork

    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.save(CamPlusPlusNetwork().state_dict(), folder / "campplus_cn_en_common.pt")
    return folder
