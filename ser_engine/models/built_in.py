"""Models whose weights are part of the package, so that they are always there.

A model's folder holds ``weights.safetensors``, whose metadata says what it is, and
``MODEL_CARD.md``, which says what it was trained on, how good it is and what it may be used for::

    format          e.g. emotion-monitor-compact-2, changed with the meaning of the file
    sizes           JSON: the dimensions of the network
    abstain_below   optional: see ModelInfo
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ser_engine.config import ModelConfig
from ser_engine.errors import CheckpointError
from ser_engine.labels import EMOTION2VEC_TOKENS, LabelSet
from ser_engine.models.hub import HUB_CLIENTS, HubClient
from ser_engine.models.model import Checkpoint, Form, Model, ModelOnDisk, Network
from ser_engine.types import ModelInfo


class Sizes(Protocol):
    """The dimensions of a network."""

    @property
    def embed_dim(self) -> int:
        """Size of an embedding."""


@dataclass(frozen=True, slots=True, eq=False)
class BuiltInCheckpoint(Checkpoint):
    """Weights from the package, and what makes a network of them."""

    sizes: Any
    make: Callable[[Any, Mapping[str, Tensor]], Network]

    def build(self) -> Network:
        try:
            return self.make(self.sizes, self.tensors)
        except RuntimeError as error:  # What load_state_dict raises.
            raise CheckpointError(f"got weights that do not fit {self.sizes}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class BuiltInModel(Model):
    """A model in the package.

    Attributes:
        weights: the file in the package.
        file_format: what its metadata must say.
        sizes: makes the network's sizes of their JSON form; raises TypeError where it is another's.
        build: makes the network, in evaluation mode, of sizes and weights; raises RuntimeError
            where they do not fit each other.
        notice: one sentence users must see wherever the model is in use.
        tokens: its classes in the order of the logits.
        neutral_logits: see ModelInfo; measured with the weights, by ``training.calibrate``.
    """

    name: str
    licence: str
    weights: Path
    file_format: str
    sizes: Callable[[dict[str, Any]], Sizes]
    build: Callable[[Any, Mapping[str, Tensor]], Network]
    notice: str = ""
    tokens: tuple[str, ...] = EMOTION2VEC_TOKENS
    neutral_logits: tuple[float, ...] = ()

    def places(
        self, config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
    ) -> tuple[Path, ...]:
        return (self.weights.parent,)

    def describe(self, place: Path, config: ModelConfig) -> ModelOnDisk:
        """Return what is known of it; its file is small enough to be read for that."""
        return ModelOnDisk(
            self.name,
            Form.BUILT_IN,
            place,
            self.weights.stat().st_size,
            self.licence,
            _sha256(self.weights),
        )

    def load(self, place: Path, config: ModelConfig) -> Checkpoint:
        return self.read(place / self.weights.name)

    def read(self, path: Path | None = None) -> BuiltInCheckpoint:
        """Read a file of this model's format, by default the one in the package.

        Raises:
            CheckpointError: it is missing, damaged or something else.
        """
        path = path or self.weights
        try:
            with safe_open(path, framework="pt") as file:
                facts = dict(file.metadata() or {})
                tensors = {name: file.get_tensor(name).float() for name in file.keys()}
            if facts.get("format") != self.file_format:
                raise CheckpointError(
                    f"got format {facts.get('format')!r} in {path}, expected {self.file_format!r}"
                )
            sizes = self.sizes(json.loads(facts["sizes"]))
            abstain_below = float(facts.get("abstain_below", 0))
            sha256 = _sha256(path)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"got {path} that cannot be read as the {self.name} model ({error}); install the"
                " package again"
            ) from error
        info = ModelInfo(
            name=self.name,
            source="built in" if path == self.weights else str(path),
            licence=self.licence,
            sha256=sha256,
            labels=LabelSet.from_tokens(self.tokens),
            embedding_dim=sizes.embed_dim,
            notice=self.notice,
            abstain_below=abstain_below,
            neutral_logits=self.neutral_logits,
            pools_speech=True,
        )
        return BuiltInCheckpoint(info, tensors, sizes, self.build)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
