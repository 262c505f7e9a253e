"""emotion2vec+ as FunASR publishes it, found, fetched and checked.

A known model is looked for in this order::

    <models_dir>/<name>            fetched or put there by hand
    caches of the hubs' clients    fetched earlier by FunASR, for instance
    <models_dir>/prepared/<name>-* left over when the above was removed to save space
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.models.emotion2vec.folder import (
    FUNASR_LICENCE,
    HUB_FILE,
    check_folder,
    load_folder,
    model_name,
)
from ser_engine.models.emotion2vec.prepared import (
    PREPARED_FILE,
    is_prepared_folder,
    load_model,
    load_prepared,
    prepared_file,
    prepared_folders,
    read_prepared_info,
)
from ser_engine.models.emotion2vec.reference import (
    PUBLISHED_FILES,
    WEIGHTS_FILE,
    is_published_folder,
)
from ser_engine.models.hub import HUB_CLIENTS, HubClient, Published, cached_folders
from ser_engine.models.model import Checkpoint, Form, Model, ModelOnDisk


class Emotion2vecModel(Model):
    """One emotion2vec(+) model: a published one, or one in a folder of the user's."""

    licence = FUNASR_LICENCE
    published: Published

    def __init__(self, name: str, *, for_gpu: bool = False) -> None:
        self.name = name
        self.for_gpu = for_gpu
        self.published = Published(
            name,
            {"modelscope": f"iic/{name}", "huggingface": f"emotion2vec/{name}"},
            files=PUBLISHED_FILES,
            optional_files=(HUB_FILE,),
        )

    def places(
        self, config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
    ) -> tuple[Path, ...]:
        places = [
            Path(config.models_dir).expanduser() / self.name,
            *cached_folders(self.published, clients),
            *prepared_folders(_prepared_dir(config), self.name),
        ]
        return tuple(
            place for place in places if is_published_folder(place) or is_prepared_folder(place)
        )

    def describe(self, place: Path, config: ModelConfig) -> ModelOnDisk:
        published = is_published_folder(place)
        name, sha256 = self.name, ""
        licence = FUNASR_LICENCE if name.startswith("emotion2vec") else ""
        try:
            known = self._prepared_of(place, config) if published else place / PREPARED_FILE
            info = read_prepared_info(known)
            name, licence, sha256 = info.name, info.licence, info.sha256
        except (CheckpointError, OSError):
            pass  # Not read yet, or damaged, which check() finds.
        weights = place / (WEIGHTS_FILE if published else PREPARED_FILE)
        form = Form.PUBLISHED if published else Form.PREPARED
        return ModelOnDisk(name, form, place, weights.stat().st_size, licence, sha256)

    def load(self, place: Path, config: ModelConfig) -> Checkpoint:
        return load_model(place, _prepared_dir(config), name=self.name)

    def check(self, place: Path, config: ModelConfig) -> Checkpoint:
        """Read every needed byte, and compare what was prepared with what it was prepared from."""
        if not is_published_folder(place):
            prepared = load_prepared(place / PREPARED_FILE)
            _check_finite(prepared, place)
            return prepared
        published = load_folder(place, name=self.name)
        _check_finite(published, place)
        kept = self._prepared_of(place, config)
        if kept.is_file():
            prepared = load_prepared(kept)
            same = prepared.info.sha256 == published.info.sha256 and all(
                torch.equal(tensor, prepared.tensors[name])
                for name, tensor in published.tensors.items()
            )
            if not same:
                raise CheckpointError(
                    f"got {kept} that differs from {place}, expected what was prepared from it;"
                    " remove the file, it is made again"
                )
        return published

    def in_folder(self, folder: Path) -> Model:
        if is_prepared_folder(folder) and not is_published_folder(folder):
            return Emotion2vecModel(folder.name)
        check_folder(folder)
        return Emotion2vecModel(model_name(folder))

    def _prepared_of(self, folder: Path, config: ModelConfig) -> Path:
        return prepared_file(folder, _prepared_dir(config), self.name)


def _prepared_dir(config: ModelConfig) -> Path:
    return Path(config.models_dir).expanduser() / "prepared"


def _check_finite(checkpoint: Checkpoint, place: Path) -> None:
    for name, tensor in checkpoint.tensors.items():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(
                f"got {place} with values in {name} that are not numbers; remove the folder and"
                " fetch it again"
            )


EMOTION2VEC_PLUS_LARGE = Emotion2vecModel("emotion2vec_plus_large", for_gpu=True)
EMOTION2VEC_PLUS_BASE = Emotion2vecModel("emotion2vec_plus_base")
EMOTION2VEC_PLUS_SEED = Emotion2vecModel("emotion2vec_plus_seed")
