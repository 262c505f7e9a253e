"""What diarisation needs of a model that tells voices apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ser_engine.types import FloatArray

__all__ = ["SpeakerEmbedder"]


class SpeakerEmbedder(Protocol):
    """Turns speech into a vector of the voice.

    Attributes:
        name: of the model.
    """

    name: str

    def embed(self, pieces: Sequence[FloatArray]) -> list[FloatArray]:
        """Return one float32 vector ``(dim,)`` of length 1 for each piece.

        Vectors of one voice have a large dot product, those of two voices a small one.

        Args:
            pieces: float32 ``(samples,)``, mono 16 kHz, 0.5 s or more.
        """
        ...
