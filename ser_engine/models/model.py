"""What a model is to the rest of the engine.

::

    Model         a name, a licence, and where it may lie on this machine
      │ load
      ▼
    Checkpoint    labels and weights in memory
      │ build                              │ open_engine
      ▼                                    ▼
    Network       two stages that any      an engine of the model's own: a reference
                  runtime can execute      implementation, or one on another machine

A model is a folder beside this file that makes one :class:`Model`, and a line in
:mod:`ser_engine.models.registry`.
Nothing outside of its folder knows its class: runtimes ask a network for what they need.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from ser_engine.config import ModelConfig, RuntimeName
from ser_engine.errors import CheckpointError, RuntimeUnavailableError
from ser_engine.models.hub import HUB_CLIENTS, HubClient, Published
from ser_engine.models.normalisation import FirstLayer
from ser_engine.types import Core, ModelInfo


class FrameOutputs(NamedTuple):
    """What a network says of each frame; padded frames hold meaningless finite values.

    Attributes:
        embeddings: (batch, frames, dim), what the head is applied to.
        logits: (batch, frames, classes). The head is linear, so their mean over the frames is
            the head applied to the mean embedding.
    """

    embeddings: Tensor
    logits: Tensor


class Graphs(NamedTuple):
    """Both stages as other runtimes want them: plain operators, any batch and length, no padding.

    Attributes:
        local: samples (batch, samples) to features (batch, frames, feature_dim).
        context: features (batch, frames, feature_dim) to embeddings and logits.
    """

    local: nn.Module
    context: nn.Module


class Network(nn.Module):
    """A network in two stages, in evaluation mode. Every network here uses the same frame grid.

    ::

        samples ──▶ local ──▶ features ──▶ context ──▶ embeddings, logits
        (batch, samples)  (batch, frames, feature_dim)  (batch, frames, dim | classes)

    A local feature depends on the 400 samples of its frame and nothing else, so it can be kept
    while a window slides on. What the context stage gives depends on the whole window.

    Attributes:
        feature_dim: numbers a frame is described by between the two stages.
        max_threads: CPU threads beyond which sharing its operations costs more than it saves;
            None: it gains from every core.
        is_small: ``runtime: auto`` executes it by PyTorch even where OpenVINO is installed: it
            starts at once, while a conversion takes 10 to 20 s, and is fast enough.
        precise: prefixes of the names of tensors whose products int8 leaves in float32.
    """

    local: nn.Module
    """Samples (batch, samples), normalised if :meth:`first_layer` is not None, to features."""
    context: nn.Module
    """Features, and int64 (batch,) saying how many leading frames of each row are real or None
    for all, to FrameOutputs. Rows may be padded: a row in a batch equals that row alone."""
    feature_dim: int
    max_threads: int | None = None
    is_small: bool = False
    precise: tuple[str, ...] = ()

    def is_precise(self, weight: npt.NDArray[np.floating]) -> bool:
        """Whether :attr:`precise` names a matrix.

        A conversion renames and transposes weights, so they are known by their values alone.
        """
        named = [
            value.detach().numpy()
            for name, value in itertools.chain(self.named_parameters(), self.named_buffers())
            if name.startswith(self.precise) and value.ndim == 2
        ]
        return any(np.array_equal(weight, form) for each in named for form in (each, each.T))

    def first_layer(self) -> FirstLayer | None:
        """Return the first convolution of a network that wants each window normalised.

        None: it takes raw samples, and local features never depend on the window they are in.
        """
        return None

    def graphs(self) -> Graphs | None:
        """Return what other runtimes than PyTorch convert; None: PyTorch alone executes it."""
        return Graphs(self.local, _WithoutPadding(self.context))

    def forward(self, samples: Tensor) -> FrameOutputs:
        """Score (batch, samples) of equal length, prepared as :attr:`local` wants them."""
        return cast(FrameOutputs, self.context(self.local(samples)))


class _WithoutPadding(nn.Module):
    def __init__(self, context: nn.Module) -> None:
        super().__init__()
        self.context = context

    def forward(self, features: Tensor) -> FrameOutputs:
        return cast(FrameOutputs, self.context(features))


@dataclass(frozen=True, slots=True, eq=False)
class Checkpoint:
    """A model in memory.

    Attributes:
        info: name, source, licence, hash and labels.
        tensors: float32 weights; empty for a model that is executed elsewhere.
    """

    info: ModelInfo
    tensors: Mapping[str, Tensor]

    def build(self) -> Network:
        """Make the network in evaluation mode.

        A temperature the model was calibrated with is part of the head's weights by now: the head
        is linear, so dividing them divides the logits.

        Raises:
            RuntimeUnavailableError: only an engine of the model's own executes it.
            CheckpointError: the weights do not fit.
        """
        raise RuntimeUnavailableError(f"{self.info.name} is not executed in this process")

    def open_engine(self, runtime: RuntimeName, device: str, threads: int) -> Core | None:
        """Return an engine of the model's own for ``runtime``; None: it has none.

        Args:
            runtime: as ``model.runtime`` names it, ``auto`` included.
            device: ``cpu``, ``cuda`` or ``cuda:N``.

        Raises:
            SerEngineError: it has one, which cannot be used here.
        """
        return None


class Form(StrEnum):
    """How a model is kept."""

    BUILT_IN = "built in"
    """Part of the package."""
    PUBLISHED = "published"
    """A folder as the hubs give it."""
    PREPARED = "prepared"
    """What a start has made of such a folder."""


@dataclass(frozen=True, slots=True)
class ModelOnDisk:
    """A model in one place.

    Attributes:
        folder: where it is.
        size_bytes: of its weight file.
        licence: of its weights; "": its folder does not state one.
        sha256: of the weight file as published, hex; "": not known before it is first read.
    """

    name: str
    form: Form
    folder: Path
    size_bytes: int
    licence: str
    sha256: str


class Model(ABC):
    """A model the package can find, load and check.

    Attributes:
        licence: of its weights; shown before they are fetched.
        for_gpu: too slow on a CPU to be fetched for one. On disk, ``auto`` takes it all the same.
        published: where hubs have it; None: it is not fetched.
    """

    name: str
    licence: str
    for_gpu: bool = False
    published: Published | None = None

    @abstractmethod
    def places(
        self, config: ModelConfig, clients: Sequence[HubClient] = HUB_CLIENTS
    ) -> tuple[Path, ...]:
        """Return the folders on this machine that hold it, in the order they are looked at."""

    @abstractmethod
    def describe(self, place: Path, config: ModelConfig) -> ModelOnDisk:
        """Return what is known of one of its places without reading the weights."""

    @abstractmethod
    def load(self, place: Path, config: ModelConfig) -> Checkpoint:
        """Read it from one of its places. Raises CheckpointError: it cannot be used."""

    def check(self, place: Path, config: ModelConfig) -> Checkpoint:
        """Read every byte of it and return it. Raises CheckpointError: it is damaged."""
        return self.load(place, config)

    def in_folder(self, folder: Path) -> Model:
        """Return a model of this kind for a folder the user names.

        Raises:
            CheckpointError: the folder holds none.
        """
        raise CheckpointError(f"got the folder {folder}, but {self.name} is not read from folders")
