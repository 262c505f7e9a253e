"""What messages are made of: their base class, and parts that several of them carry."""

from __future__ import annotations

import msgspec

__all__ = ["Message", "ModelNotice", "StreamChannel"]


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """JSON object with a ``type``; unknown fields are ignored."""


class ModelNotice(msgspec.Struct, frozen=True, kw_only=True):
    """The model that scores a stream.

    Attributes:
        name: e.g. ``emotion2vec_plus_base``.
        licence: of its weights.
        notice: what must be said wherever it is in use, or "".
    """

    name: str
    licence: str
    notice: str = ""


class StreamChannel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel as the server sees it.

    Attributes:
        index: number of the channel, from 0.
        analysed: False: its role is not analysed, there are no results for it.
    """

    index: int
    role: str
    name: str
    analysed: bool
